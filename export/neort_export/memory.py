"""Keeps the C library from holding on to memory that was freed between one layer of the model and the next."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

__all__ = ["keep_heap_small", "return_freed"]

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of glibc's malloc.h
LARGE_BYTES = 8 << 20
HEAPS = 2


def return_freed() -> None:
    """Give freed memory back to the system: glibc keeps it otherwise. Elsewhere nothing has to be done."""
    trim = _c_function("malloc_trim")
    if trim is not None:
        trim(0)


def keep_heap_small() -> None:
    """Let glibc map large arrays one by one, and keep no heap per thread: for the whole process, from its start."""
    mallopt = _c_function("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(M_ARENA_MAX, HEAPS)


@functools.cache
def _c_function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
