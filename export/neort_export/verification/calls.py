"""Calls of a runner as they are recorded: what was asked, and what a graph is fed for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neort.backend import RunInputs

__all__ = ["Call", "Move", "Run", "groups"]

Ids = NDArray[np.int64]
Lengths = NDArray[np.int32]

GROUP_ROWS = 256  # rows of logits in memory at a time


@dataclass(frozen=True)
class Run:
    """One run of the graph on the slots from ``slot`` on.

    ``token_ids`` int64 [B, S] follow ``lengths`` int32 [B] cached positions; the last ``logits_to_keep`` tokens of each
    sequence get logits. With a ``dummy`` there is one more sequence (see `RunInputs`). ``ends`` are the lengths of
    prompts of which the shorter ones are padded; None: nothing is.
    """

    slot: int
    token_ids: Ids
    lengths: Lengths
    logits_to_keep: int
    dummy: bool
    ends: tuple[int, ...] | None = None

    @property
    def logit_count(self) -> int:
        """The number of rows of logits that it is answered with."""
        return self.logits_to_keep * len(self.token_ids)

    @property
    def stop_slot(self) -> int:
        """The slot after those that it runs, which is the dummy's."""
        return self.slot + len(self.token_ids)

    def inputs(self, first: int = 0) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs by name, where the past of local layers begins at row ``first``."""
        count, rows = self.token_ids.shape
        inputs = RunInputs(count, rows, self.logits_to_keep, dummy=self.dummy)
        if self.ends is None:
            inputs.fill(self.token_ids, self.lengths, first)
        else:
            inputs.fill_prompts([row[:end] for row, end in zip(self.token_ids, self.ends, strict=True)])
        return inputs.feeds

    def same(self, other: Call) -> bool:
        """Say whether the other call asks for the same."""
        return (
            isinstance(other, Run)
            and (self.slot, self.logits_to_keep, self.ends) == (other.slot, other.logits_to_keep, other.ends)
            and np.array_equal(self.token_ids, other.token_ids)
            and np.array_equal(self.lengths, other.lengths)
        )


@dataclass(frozen=True)
class Move:
    """The sequence of one slot, of ``length`` positions, continues in another."""

    source: int
    target: int
    length: int

    logit_count = 0

    def same(self, other: Call) -> bool:
        """Say whether the other call asks for the same."""
        return self == other


Call = Run | Move


def groups(calls: Sequence[Call]) -> Iterator[list[int]]:
    """Yield the indices of consecutive calls with about GROUP_ROWS rows of logits together."""
    group: list[int] = []
    rows = 0
    for i, call in enumerate(calls):
        if group and rows + call.logit_count > GROUP_ROWS:
            yield group
            group, rows = [], 0
        group.append(i)
        rows += call.logit_count
    if group:
        yield group
