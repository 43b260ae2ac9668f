"""What an engine has done so far and is doing now, as figures for whoever watches it.

Knows numbers; knows nothing about requests, runs or threads.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counts", "EngineFigures"]


@dataclass(frozen=True)
class EngineFigures:
    """An engine at one moment; see `Model.engine_figures`.

    ``running``, ``prefilling`` and ``waiting`` are sequences now: those that are decoded, those whose prompts are being
    read, and those without a slot. ``cache_bytes`` are what the first two may come to use of the key-value cache, which
    is what ``max_cache_bytes`` limits; None where it is not limited.

    The others count from the start: ``prefix_queries`` are tokens of prompts that were looked up among stored ones,
    ``prefix_hits`` those of them that were found there; ``prefill_tokens`` were run, ``generated_tokens`` were chosen
    (a beam search's count once for all beams), ``drafted`` were proposed, ``accepted`` are those of them that the
    model chose. ``failed`` is the last error that no single request was to blame for, and which ended all that there
    were; None where there was none.
    """

    running: int
    waiting: int
    prefilling: int
    cache_bytes: int
    max_cache_bytes: int | None
    prefix_queries: int
    prefix_hits: int
    prefill_tokens: int
    generated_tokens: int
    drafted: int
    accepted: int
    failed: BaseException | None


@dataclass
class Counts:
    """What is counted from the start, see `EngineFigures`. The thread that steps writes, any may read."""

    prefix_queries: int = 0
    prefix_hits: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    failed: BaseException | None = None
