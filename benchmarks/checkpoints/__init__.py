"""Checkpoints that are made for benchmarks: random ones of published shapes, and twins with outlier channels."""
