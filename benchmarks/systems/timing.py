"""How every system is timed: the same prompts, the same number of new tokens, greedy.

A system is a module with two functions: prepare(system, checkpoint, folder) converts a checkpoint, and
load(system, folder, threads) returns a function from prompts and a number of new tokens to a Timing. Knows nothing
about any of them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Measure", "Prompts", "Step", "Timing", "time_steps"]

Prompts = list[list[int]]  # token ids, all prompts of one length
Step = Callable[[list[int]], list[int]]


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of one generation: all prompts to their first token, and each decode step behind it."""

    prefill_seconds: float
    step_seconds: list[float]
    tokens: list[list[int]]  # what each sequence generated


Measure = Callable[[Prompts, int], Timing]


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
