"""Vectors for texts, of the hidden states of their tokens."""

from __future__ import annotations

from .embedder import Embedder
from .options import Pooling, Truncation

__all__ = ["Embedder", "Pooling", "Truncation"]
