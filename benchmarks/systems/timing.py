"""How every system is timed: the same prompts, the same number of new tokens, greedy.

A system is a module with three functions and a table (see `worker`). Knows nothing about any of them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Prompts", "Step", "Timing", "time_steps"]

Prompts = list[list[int]]  # token ids, all prompts of one length
Step = Callable[[list[int]], list[int]]


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of one generation: all prompts to their first token, and each decode step behind it."""

    prefill_seconds: float
    step_seconds: list[float]


def time_steps(start: Callable[[Prompts], list[int]], step: Step, prompts: Prompts, new_tokens: int) -> Timing:
    """Time a system that decodes step by step; both functions return the next token of each sequence."""
    began = time.perf_counter()
    tokens = start(prompts)
    times = [time.perf_counter()]
    for _ in range(new_tokens - 1):
        tokens = step(tokens)
        times.append(time.perf_counter())
    return Timing(times[0] - began, [after - before for before, after in itertools.pairwise(times)])
