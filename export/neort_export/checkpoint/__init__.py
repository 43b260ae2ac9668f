"""A checkpoint on disk: configuration and tensors, read on demand."""

from __future__ import annotations

from .checkpoint import Checkpoint
from .reading import LARGE_FILE, has_file, read_bytes, read_object, said
from .tensors import refuse_overflow

__all__ = ["LARGE_FILE", "Checkpoint", "has_file", "read_bytes", "read_object", "refuse_overflow", "said"]
