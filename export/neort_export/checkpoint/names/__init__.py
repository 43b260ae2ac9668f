"""Which stored tensor is which parameter: transformers' own answer, and the sentence where some are missing or left."""

from __future__ import annotations

from .matching import Reading, read_names

__all__ = ["Reading", "read_names"]
