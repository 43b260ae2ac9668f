"""Which sequence has which slot of the cache.

A step of decoding has a row for every slot up to the last sequence that it decodes, so running ones are kept close to
the first slot; what others hold in between is left alone. A sequence whose prompt is being read is never moved, and a
running one only where a slot before it stays idle: a long one's rows are many.

Knows slots and lengths; knows nothing about who waits, or what runs compute.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..kvcache import PrefixCache
from ..runner import ModelRunner
from .group import Group, Sequence

__all__ = ["Slots"]

Owners = list[Sequence | None]


class Slots:
    """The slots of a runner: the sequence at index i of ``owners`` has slot i, None is idle, and so are those beyond.

    Attributes:
        borrowed: slots of texts that are read, with the positions that these take; they have no owner.
    """

    def __init__(self, runner: ModelRunner, prefixes: PrefixCache | None = None) -> None:
        """``prefixes`` keeps finished sequences."""
        self.owners: Owners = []
        self.borrowed: dict[int, int] = {}
        self._runner = runner
        self._prefixes = prefixes
        self._used = 0  # slots that may hold memory

    @property
    def groups(self) -> list[Group]:
        """The requests that have slots, in the order of their first ones. Any thread may ask."""
        return list(dict.fromkeys(owner.group for owner in self.owners if owner is not None))

    @property
    def places(self) -> dict[Sequence, int]:
        """The slot of each sequence that has one."""
        return {owner: slot for slot, owner in enumerate(self.owners) if owner is not None}

    @property
    def free(self) -> int:
        """How many slots are idle. Any thread may ask."""
        taken = sum(owner is not None for owner in self.owners)
        return self._runner.max_batch_size - taken - len(self.borrowed)

    @property
    def end(self) -> int:
        """The first slot behind all that are in use."""
        return max(len(self.owners), *(slot + 1 for slot in self.borrowed), 0)

    def hold(self, group: Group) -> bool:
        """Whether a request has its slots."""
        return group.sequences[0] in self.owners

    def take(self, sequences: list[Sequence]) -> None:
        """Give sequences the first idle slots. Raises OutOfMemoryError where the system refuses the memory."""
        idle = [slot for slot in range(self._runner.max_batch_size) if self._is_idle(slot)][: len(sequences)]
        self._reserve(idle[-1] + 1)
        self._place(zip(idle, sequences, strict=True))

    def put_side_by_side(self, empty: list[Sequence]) -> list[Sequence]:
        """Let sequences that hold nothing yet have consecutive slots; returns the first ones, as many as that goes for.

        They share their own slots and those that are idle between the first and the last one in use.
        """
        pool = [slot for slot, owner in enumerate(self.owners) if self._is_idle(slot) or owner in empty]
        stretch = _longest_stretch(pool)
        order = [*stretch, *(slot for slot in pool if slot not in stretch)]
        self._place([*zip(pool, [None] * len(pool), strict=True), *zip(order, empty, strict=False)])
        return empty[: len(stretch)]

    def close_up(self) -> None:
        """Move the last running sequences to idle slots before them."""
        while True:
            running = [slot for slot, owner in enumerate(self.owners) if owner is not None and not owner.group.filling]
            idle = next((slot for slot in range(len(self.owners)) if self._is_idle(slot)), None)
            if idle is None or not running or idle > running[-1]:
                return
            last = self.owners[running[-1]]
            assert last is not None
            self._runner.move(running[-1], idle, last.cached)
            self._place([(idle, last), (running[-1], None)])  # at once: none is missing or there twice in between

    def free_done(self) -> None:
        """Take the slots of requests that are done away from them."""
        for slot, owner in reversed(list(enumerate(self.owners))):
            if owner is not None and owner.group.done:
                self._store_finished(owner, slot)
                self._place([(slot, None)])

    def forget_done(self) -> None:
        """As `free_done`, and nothing is stored."""
        self._place([(slot, None) for slot, owner in enumerate(self.owners) if owner is None or owner.group.done])

    def release_idle(self) -> None:
        """Give the memory of the slots behind those in use back."""
        end = self.end
        if end < self._used:
            for slot in range(end, self._used + 1):  # into the last one a decode may have written
                self._runner.release(slot)
            self._used = end

    @property
    def idle(self) -> range:
        """The most idle slots that lie side by side."""
        stretch = _longest_stretch([slot for slot in range(self._runner.max_batch_size) if self._is_idle(slot)])
        return range(stretch[0], stretch[-1] + 1) if stretch else range(0)

    def borrow(self, positions: list[int]) -> range:
        """Return the first `idle` slots, one for each text of so many positions, until `give_back`."""
        slots = self.idle[: len(positions)]
        if positions:
            self._reserve(slots.stop)
            self.borrowed = {**self.borrowed, **dict(zip(slots, positions, strict=True))}
        return slots

    def give_back(self) -> None:
        """Take all borrowed slots back; their memory stays until `release_idle`."""
        self.borrowed = {}

    def _is_idle(self, slot: int) -> bool:
        return slot not in self.borrowed and (slot >= len(self.owners) or self.owners[slot] is None)

    def _place(self, changes: Iterable[tuple[int, Sequence | None]]) -> None:
        """Change the owners of some slots, at once."""
        owners = self.owners.copy()
        for slot, owner in changes:
            owners += [None] * (slot + 1 - len(owners))
            owners[slot] = owner
        while owners and owners[-1] is None:
            owners.pop()
        self.owners = owners

    def _reserve(self, slots: int) -> None:
        self._used = max(self._used, slots)
        lengths = [0 if owner is None else owner.cached for owner in self.owners]
        lengths += [0] * (self.end - len(lengths))
        for slot, positions in self.borrowed.items():
            lengths[slot] = positions
        self._runner.reserve(slots, lengths)

    def _store_finished(self, sequence: Sequence, slot: int) -> None:
        """Store a finished sequence with its prompt, where decode steps give the bits of a prefill.

        A prompt that goes on after it, as a conversation's next one does, then starts from there.
        """
        request = sequence.group
        whole = request.finished and sequence is request.sequences[0] and sequence.cached > len(request.prompt_ids)
        if self._prefixes and self._prefixes.granularity == 1 and whole:
            request.finished = False  # once, whatever is raised: the slot is about to be another's
            self._prefixes.store(slot, np.asarray(sequence.context[: sequence.cached], np.int64), None)


def _longest_stretch(slots: list[int]) -> list[int]:
    """The longest run of consecutive numbers among ascending ones, the first of the longest."""
    best: list[int] = []
    stretch: list[int] = []
    for slot in slots:
        stretch = [*stretch, slot] if stretch and slot == stretch[-1] + 1 else [slot]
        best = max(best, stretch, key=len)
    return best
