"""Log-probabilities of given tokens: what a batch of readings runs, and what is kept of its logits.

Logits are reduced as they come, a block of rows at a time, so that no array holds those of a whole text.

Knows runs and logits; knows nothing about requests, text or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Doubles, Ids, Logits
from ..bundle import ModelSpec
from ..errors import LogitsError
from ..runner import ModelRunner

__all__ = ["Reading", "ReadingScores", "TokenScores", "first_batch", "score_batch"]

MOST_ROWS = 2048  # tokens in one run: more are not faster
MOST_LOGITS = 1 << 25  # numbers in one run's logits: 128 MiB
BLOCK_LOGITS = 1 << 20  # numbers reduced at once: what a second-level cache holds


@dataclass(frozen=True, eq=False)
class Reading:
    """A sequence for the model to read, and tokens whose probabilities there are wanted.

    Attributes:
        token_ids: what is read, int64 [T].
        targets: each int64 [n], 0 <= n <= T: the tokens that may follow the last n of ``token_ids``.
        branches: readings that go on after the last of ``token_ids``, which are then read once for all; they have none
            of their own. Attention adds up in another order than where a branch is read with what comes before.
    """

    token_ids: Ids
    targets: tuple[Ids, ...]
    branches: tuple[Reading, ...] = ()

    @property
    def positions(self) -> int:
        """How many positions of the cache it takes."""
        return len(self.token_ids) + max((len(branch.token_ids) for branch in self.branches), default=0)

    @property
    def first(self) -> int:
        """The first position whose logits are wanted."""
        return len(self.token_ids) - max((len(target) for target in self.targets), default=0)


@dataclass(frozen=True, eq=False)
class TokenScores:
    """Of n target tokens the natural logarithms of their probabilities, [n], and which have the highest, [n]."""

    logprobs: Doubles
    greedy: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ReadingScores:
    """The scores of a reading's ``targets``, and those of each branch's."""

    targets: tuple[TokenScores, ...]
    branches: tuple[tuple[TokenScores, ...], ...]


def first_batch(readings: Sequence[Reading], spec: ModelSpec, chunk: int, *, alone: bool) -> Sequence[Reading]:
    """Return the first of ``readings`` that should share their first run, of up to ``chunk`` tokens; at least one.

    A run has few tokens where others wait for it: unless the batch is ``alone`` in the engine.
    """
    most_rows = max(chunk, MOST_ROWS if alone else 0)
    longest = wanted = 0
    for count, reading in enumerate(readings, start=1):
        longest = max(longest, min(len(reading.token_ids), chunk))
        wanted = max(wanted, longest - _first_wanted(readings[:count], longest))
        if count > 1 and (count * longest > most_rows or count * wanted * spec.vocab_size > MOST_LOGITS):
            return readings[: count - 1]
    return readings


def score_batch(
    runner: ModelRunner, slots: range, readings: Sequence[Reading], chunk: int, wanted: Callable[[], bool]
) -> list[ReadingScores]:
    """Score ``readings``, each in one of ``slots``; their first ``chunk`` tokens are run together, the rest alone.

    Returns none of them once they are not ``wanted`` any more. Raises LogitsError when the model yields NaN.
    """
    prompts = [reading.token_ids[:chunk] for reading in readings]
    longest = max(len(prompt) for prompt in prompts)
    start = _first_wanted(readings, longest)
    logits = runner.prefill_prompts(slots.start, prompts, longest - start)
    scores = []
    for slot, reading, prompt, rows in zip(slots, readings, prompts, logits, strict=True):
        reduction = _Reduction(reading)
        reduction.add(start, rows[: max(0, len(prompt) - start)])
        if not wanted():
            return []
        _read_on(runner, slot, reading.token_ids, len(prompt), chunk, reduction)
        scores.append(ReadingScores(reduction.scores, _score_branches(runner, slot, reading, chunk, wanted)))
    return scores


def _first_wanted(readings: Sequence[Reading], longest: int) -> int:
    """The first position of a run of ``longest`` tokens whose logits any of the readings wants."""
    return min(longest, *(reading.first for reading in readings))


def _score_branches(
    runner: ModelRunner, slot: int, reading: Reading, chunk: int, wanted: Callable[[], bool]
) -> tuple[tuple[TokenScores, ...], ...]:
    """The scores of each branch, which is written over the one before."""
    scores = []
    for branch in reading.branches if wanted() else ():
        reduction = _Reduction(branch)
        _read_on(runner, slot, branch.token_ids, 0, chunk, reduction, cached=len(reading.token_ids))
        scores.append(reduction.scores)
    return tuple(scores)


def _read_on(
    runner: ModelRunner, slot: int, token_ids: Ids, start: int, chunk: int, reduction: _Reduction, cached: int = 0
) -> None:
    """Run ``token_ids`` from place ``start`` on, after ``cached`` positions that are no part of them."""
    for begin in range(start, len(token_ids), chunk):
        part = token_ids[begin : begin + chunk]
        keep = min(len(part), max(0, begin + len(part) - reduction.first))
        reduction.add(begin + len(part) - keep, runner.prefill(slot, part, cached + begin, keep))


class _Reduction:
    """Collects the scores of a reading's targets from its logits."""

    def __init__(self, reading: Reading) -> None:
        self.first = reading.first
        self._targets = [(len(reading.token_ids) - len(target), target) for target in reading.targets]
        self._logprobs = [np.empty(len(target), np.float64) for target in reading.targets]
        self._greedy = [np.empty(len(target), np.bool_) for target in reading.targets]

    @property
    def scores(self) -> tuple[TokenScores, ...]:
        """What there is of each target, once all logits were added."""
        return tuple(TokenScores(*pair) for pair in zip(self._logprobs, self._greedy, strict=True))

    def add(self, start: int, rows: Logits) -> None:
        """Take the logits [n, V] at positions from ``start`` on; those before the first wanted one are left out."""
        skipped = max(0, self.first - start)
        size = max(1, BLOCK_LOGITS // rows.shape[-1])
        for begin in range(skipped, len(rows), size):
            self._add_block(start + begin, rows[begin : begin + size])

    def _add_block(self, start: int, block: Logits) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            largest = block.max(axis=-1)
            sums = np.exp(block - largest[:, None]).sum(axis=-1, dtype=np.float64)
            log_sums = largest.astype(np.float64) + np.log(sums)
        if not np.isfinite(log_sums).all():
            raise LogitsError(
                "the model produced NaN or infinite logits, which give no probabilities; check the bundle by "
                "`neort verify`, and export it again where that fails"
            )
        best = block.argmax(axis=-1)
        for (offset, target), logprobs, greedy in zip(self._targets, self._logprobs, self._greedy, strict=True):
            rows = np.arange(max(0, offset - start), len(block))
            places = start + rows - offset
            logprobs[places] = block[rows, target[places]] - log_sums[rows]
            greedy[places] = best[rows] == target[places]
