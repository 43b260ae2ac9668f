"""How work is timed: a function's seconds, the fastest of a few rounds, and a system's prefill and decode steps.

Imports nothing beyond Python's own library, since other systems' environments run it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Measure", "Prompts", "Step", "Timing", "fastest", "seconds", "time_steps"]

Prompts = list[list[int]]  # token ids, all prompts of one length
Step = Callable[[list[int]], list[int]]


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of one generation: all prompts to their first token, and each decode step after it."""

    prefill_seconds: float
    step_seconds: list[float]
    tokens: list[list[int]]  # what each sequence generated


Measure = Callable[[Prompts, int], Timing]


def seconds(run: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def fastest(run: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest round, the first one not counted."""
    run()
    return min(seconds(run) for _ in range(rounds))


def time_steps(start: Callable[[Prompts], list[int]], step: Step, prompts: Prompts, new_tokens: int) -> Timing:
    """Time a system that decodes step by step; both functions return the next token of each sequence."""
    began = time.perf_counter()
    steps = [start(prompts)]
    times = [time.perf_counter()]
    for _ in range(new_tokens - 1):
        steps.append(step(steps[-1]))
        times.append(time.perf_counter())
    seconds = [after - before for before, after in itertools.pairwise(times)]
    return Timing(times[0] - began, seconds, [list(tokens) for tokens in zip(*steps, strict=True)])
