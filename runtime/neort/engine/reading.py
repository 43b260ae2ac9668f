"""Texts that the model reads in batches: what a run reads together, and what is kept of its rows.

A row is what a run gives for a position: logits, or hidden states. Rows are reduced as they come, so that no array
holds those of all texts.

Knows runs and rows; knows nothing about requests, text or threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ..arrays import Floats, Ids

__all__ = ["MOST_ROWS", "Reading", "ReadingResult", "Reduction", "RowSource", "first_batch", "read_batch", "shares_run"]

MOST_ROWS = 512  # tokens in one run: at 125M 256 to 1,024 are as fast, 2,048 a seventh slower
MOST_PADDING = 128  # tokens in one run that are none: more cost as much as another run
MOST_NUMBERS = 1 << 25  # in the rows of one run: 128 MiB

Result = TypeVar("Result")
Made = TypeVar("Made", covariant=True)


@dataclass(frozen=True)
class RowSource:
    """Runs that give rows.

    Attributes:
        row_size: how many numbers a run holds for each position whose row is wanted.
        prefill: as `ModelRunner.prefill`, of rows [n, W].
        prefill_prompts: as `ModelRunner.prefill_prompts`, of rows [B, n, W].
    """

    row_size: int
    prefill: Callable[[int, Ids, int, int], Floats]
    prefill_prompts: Callable[[int, Sequence[Ids], int], Floats]


class Reduction(Protocol[Made]):
    """Makes a result of a reading's rows."""

    def add(self, start: int, rows: Floats) -> None:
        """Take the rows [n, W] of positions from ``start`` on, none of them before the first that is wanted."""

    def result(self) -> Made:
        """What was made, once all rows were added."""


class Reading(ABC, Generic[Result]):
    """A sequence for the model to read, and what to make of its rows.

    Attributes:
        token_ids: what is read, int64 [T].
        first: the first position whose row is wanted, 0 to T.
        branches: readings that go on after the last of ``token_ids``, which are then read once for all; they have none
            of their own. Attention adds up in another order than where a branch is read with what comes before.
    """

    token_ids: Ids
    branches: tuple[Reading[Result], ...] = ()

    @property
    @abstractmethod
    def first(self) -> int: ...

    @abstractmethod
    def reduction(self) -> Reduction[Result]:
        """What takes the rows from ``first`` on."""

    @property
    def positions(self) -> int:
        """How many positions of the cache it takes."""
        return len(self.token_ids) + max((len(branch.token_ids) for branch in self.branches), default=0)


@dataclass(frozen=True, eq=False)
class ReadingResult(Generic[Result]):
    """What was made of a reading's own rows, and of each branch's."""

    own: Result
    branches: tuple[Result, ...]


def shares_run(count: int, longest: int, tokens: int, most_rows: int) -> bool:
    """Whether so many texts of ``tokens`` in all should share a run, which pads each to ``longest``."""
    rows = count * longest
    return rows <= most_rows and rows - tokens <= MOST_PADDING


def first_batch(
    readings: Sequence[Reading[Result]], row_size: int, chunk: int, *, alone: bool
) -> Sequence[Reading[Result]]:
    """Return the first of ``readings`` that should share their first run, of up to ``chunk`` tokens; at least one.

    A run has few tokens where others wait for it: unless the batch is ``alone`` in the engine.
    """
    most_rows = max(chunk, MOST_ROWS if alone else 0)
    longest = wanted = tokens = 0  # wanted: of the last rows of each
    for count, reading in enumerate(readings, start=1):
        length = min(len(reading.token_ids), chunk)
        longest, tokens = max(longest, length), tokens + length
        wanted = max(wanted, length - reading.first)
        together = shares_run(count, longest, tokens, most_rows) and count * wanted * row_size <= MOST_NUMBERS
        if count > 1 and not together:
            return readings[: count - 1]
    return readings


def read_batch(
    source: RowSource, slots: range, readings: Sequence[Reading[Result]], chunk: int, goes_on: Callable[[], bool]
) -> list[ReadingResult[Result]]:
    """Read ``readings``, each in one of ``slots``; their first ``chunk`` tokens are run together, the rest alone.

    Before each further run ``goes_on`` is asked; returns no reading once it says no. Raises what reductions raise.
    """
    if not readings:
        return []
    prompts = [reading.token_ids[:chunk] for reading in readings]
    own = [max(0, len(prompt) - reading.first) for prompt, reading in zip(prompts, readings, strict=True)]
    rows = source.prefill_prompts(slots.start, prompts, max(own))
    results = []
    for slot, reading, prompt, count, last in zip(slots, readings, prompts, own, rows, strict=True):
        reduction = reading.reduction()
        if count:
            reduction.add(reading.first, last[len(last) - count :])
        if not _read_on(source, slot, reading, len(prompt), chunk, reduction, goes_on):
            return []
        branches = _read_branches(source, slot, reading, chunk, goes_on)
        if branches is None:
            return []
        results.append(ReadingResult(reduction.result(), branches))
    return results


def _read_branches(
    source: RowSource, slot: int, reading: Reading[Result], chunk: int, goes_on: Callable[[], bool]
) -> tuple[Result, ...] | None:
    """What is made of each branch, which is written over the one before; None where it does not go on."""
    results = []
    for branch in reading.branches:
        reduction = branch.reduction()
        if not _read_on(source, slot, branch, 0, chunk, reduction, goes_on, cached=len(reading.token_ids)):
            return None
        results.append(reduction.result())
    return tuple(results)


def _read_on(
    source: RowSource,
    slot: int,
    reading: Reading[Result],
    start: int,
    chunk: int,
    reduction: Reduction[Result],
    goes_on: Callable[[], bool],
    cached: int = 0,
) -> bool:
    """Run a reading's tokens from place ``start`` on, after ``cached`` positions that are no part of them.

    Returns whether all of them were run.
    """
    for begin in range(start, len(reading.token_ids), chunk):
        if not goes_on():
            return False
        part = reading.token_ids[begin : begin + chunk]
        keep = min(len(part), max(0, begin + len(part) - reading.first))
        rows = source.prefill(slot, part, cached + begin, keep)
        if keep:
            reduction.add(begin + len(part) - keep, rows)
    return True
