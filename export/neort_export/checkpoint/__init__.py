"""A checkpoint on disk: configuration and tensors, read on demand."""

from __future__ import annotations

from .checkpoint import Checkpoint
from .finite import refuse_overflow

__all__ = ["Checkpoint", "refuse_overflow"]
