"""A bundle against torch: run layer by layer, compared, graded."""
