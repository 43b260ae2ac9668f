"""Keeps the C library from holding on to memory that was freed between one block of the model and the next."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

__all__ = ["return_freed"]


def return_freed() -> None:
    """Give freed memory back to the system: glibc keeps it otherwise. Elsewhere nothing has to be done."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
