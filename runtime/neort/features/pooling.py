"""What is made of the hidden states of a text's tokens, as the runs that read it end.

Knows arrays and readings; knows nothing about models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Doubles, Floats, Ids
from ..engine import Reading, Reduction
from .options import Pooling

__all__ = ["PooledReading"]


@dataclass(frozen=True, eq=False)
class PooledReading(Reading[Floats]):
    """A text to read, int64 [T], of which one vector [K] is made: all of them, [T, K], where ``pooling`` is "none"."""

    token_ids: Ids
    pooling: Pooling
    channels: int

    @property
    def first(self) -> int:
        """The first position whose hidden states are wanted."""
        return len(self.token_ids) - 1 if self.pooling == "last" else 0

    def reduction(self) -> Reduction[Floats]:
        """What takes the hidden states."""
        match self.pooling:
            case "mean":
                return _Mean(len(self.token_ids), self.channels)
            case "last":
                return _Last()
            case "none":
                return _All(len(self.token_ids), self.channels)


class _Mean:
    """The mean of all rows, which are added up in the order of a text's chunks."""

    def __init__(self, length: int, channels: int) -> None:
        self._length = length
        self._sum: Doubles = np.zeros(channels, np.float64)

    def add(self, start: int, rows: Floats) -> None:
        self._sum += rows.sum(axis=0, dtype=np.float64)

    def result(self) -> Floats:
        mean: Floats = (self._sum / self._length).astype(np.float32)
        return mean


class _Last:
    """The last row."""

    def add(self, start: int, rows: Floats) -> None:
        self._row: Floats = rows[-1].copy()  # of a run's, which are many

    def result(self) -> Floats:
        return self._row


class _All:
    """All rows."""

    def __init__(self, length: int, channels: int) -> None:
        self._rows = np.empty((length, channels), np.float32)

    def add(self, start: int, rows: Floats) -> None:
        self._rows[start : start + len(rows)] = rows

    def result(self) -> Floats:
        return self._rows
