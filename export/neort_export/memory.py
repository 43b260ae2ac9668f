"""Memory: the C library is kept from holding on to what was freed, and its end is told in one sentence."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neort.errors import NeortError, OutOfMemoryError

__all__ = ["available_bytes", "keep_heap_small", "memory_errors", "return_freed"]

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of glibc's malloc.h
LARGE_BYTES = 8 << 20
HEAPS = 2
REFUSALS = ("can't allocate memory", "not enough memory", "bad_alloc", "bad allocation")  # as torch's libraries say it


@contextlib.contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn whatever is raised where the system gives no memory for ``what`` into one sentence.

    Raises OutOfMemoryError.
    """
    try:
        yield
    except NeortError:
        raise
    except Exception as error:
        if not _is_refusal(error):
            raise
        raise OutOfMemoryError(
            f"the system gives no memory for {what}; nothing was written. End other programs, raise the limit of this "
            "process (ulimit -v, or the container's), or use a machine with more memory"
        ) from error


def _is_refusal(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that there is no memory."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError) or any(words in str(error) for words in REFUSALS):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def available_bytes() -> int | None:
    """Return how much memory can be had without taking another program's; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    facts = dict(line.split(":", 1) for line in lines)
    return int(facts["MemAvailable"].split()[0]) << 10 if "MemAvailable" in facts else None


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
