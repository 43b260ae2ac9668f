"""Weights in fewer bits: blocks, compensated rounding, and tensors that are computed as they are written."""
