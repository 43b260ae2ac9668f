"""A checkpoint on disk: configuration and tensors, read on demand."""

from __future__ import annotations

from .checkpoint import Checkpoint
from .finite import refuse_overflow
from .reading import LARGE_FILE, has_file, read_bytes, read_object, said

__all__ = ["LARGE_FILE", "Checkpoint", "has_file", "read_bytes", "read_object", "refuse_overflow", "said"]
