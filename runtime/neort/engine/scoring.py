"""Log-probabilities of given tokens, made of the logits of a text that is read.

Knows logits; knows nothing about requests, text or threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays import Doubles, Ids, Logits
from ..errors import LogitsError
from ..runner import ModelRunner
from .reading import Reading, ReadingResult, RowSource

__all__ = ["ReadingScores", "ScoredReading", "TokenScores", "logits_of"]

BLOCK_LOGITS = 1 << 20  # numbers reduced at once: what a second-level cache holds


@dataclass(frozen=True, eq=False)
class TokenScores:
    """Of n target tokens the natural logarithms of their probabilities, [n], and which have the highest, [n]."""

    logprobs: Doubles
    greedy: NDArray[np.bool_]


#: The scores of each of a reading's targets, and of those of its branches.
ReadingScores: TypeAlias = ReadingResult[tuple[TokenScores, ...]]


@dataclass(frozen=True, eq=False)
class ScoredReading(Reading[tuple[TokenScores, ...]]):
    """A sequence for the model to read, and tokens whose probabilities there are wanted.

    Attributes:
        token_ids: what is read, int64 [T].
        targets: each int64 [n], 0 <= n <= T: the tokens that may follow the last n of ``token_ids``.
        branches: see `Reading`.
    """

    token_ids: Ids
    targets: tuple[Ids, ...]
    branches: tuple[ScoredReading, ...] = ()

    @property
    def first(self) -> int:
        """The first position whose logits are wanted."""
        return len(self.token_ids) - max((len(target) for target in self.targets), default=0)

    def reduction(self) -> _Scores:
        """What collects the scores; raises LogitsError when the model yields NaN."""
        return _Scores(len(self.token_ids), self.targets)


def logits_of(runner: ModelRunner) -> RowSource:
    """Runs that give logits."""
    return RowSource(runner.spec.vocab_size, runner.prefill, runner.prefill_prompts)


class _Scores:
    """Collects the scores of a reading's targets from its logits, a block of rows at a time."""

    def __init__(self, length: int, targets: tuple[Ids, ...]) -> None:
        self._targets = [(length - len(target), target) for target in targets]
        self._logprobs = [np.empty(len(target), np.float64) for target in targets]
        self._greedy = [np.empty(len(target), np.bool_) for target in targets]

    def result(self) -> tuple[TokenScores, ...]:
        """The scores of each target."""
        return tuple(TokenScores(*pair) for pair in zip(self._logprobs, self._greedy, strict=True))

    def add(self, start: int, rows: Logits) -> None:
        """Take the logits [n, V] at positions from ``start`` on."""
        size = max(1, BLOCK_LOGITS // rows.shape[-1])
        for begin in range(0, len(rows), size):
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
