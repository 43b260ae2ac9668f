"""Tells errors for want of memory from others. onnxruntime's and the dynamic linker's share no class, only words."""

from __future__ import annotations

__all__ = ["lacks_memory"]

SIGNS = ("bad_alloc", "bad allocation", "Failed to allocate", "annot allocate memory", "failed to map segment")


def lacks_memory(error: Exception) -> bool:
    """Whether an error says that the system gave no memory."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)
