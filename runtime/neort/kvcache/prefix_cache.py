"""Keys and values of prompts that were prefilled: prompts that begin alike are not prefilled twice.

A tree of blocks. A block holds the rows of up to ``block_size`` tokens and follows the block of the tokens before, so
prompts with the same beginning share its memory. A prompt may start from a stored one only where its own prefill would
be cut as well, at multiples of the prefill's chunk: then it is computed as it would be alone, bit for bit. A prompt
that was stored as a whole has its logits beside it and needs no run at all.

Knows token ids and rows; knows nothing about requests, files or onnxruntime.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..arrays import Ids, Logits, Rows
from ..runner import ModelRunner

__all__ = ["Pin", "PrefixBlock", "PrefixCache"]


@dataclass(eq=False)
class Pin:
    """Keeps the blocks of a prefix from being dropped, as long as it lives and is not released."""

    blocks: list[PrefixBlock] = field(default_factory=list)


class PrefixBlock:
    """The rows of a few tokens after those of ``parent``, and the logits [V] after the last one, where known."""

    def __init__(self, parent: PrefixBlock | None, key: bytes, start: int, rows: Rows) -> None:
        self.parent, self.key, self.start, self.rows = parent, key, start, rows
        self.ids: Ids = np.frombuffer(key, np.int64)
        self.logits: Logits | None = None
        self.children: dict[bytes, PrefixBlock] = {}
        self.pins: weakref.WeakSet[Pin] = weakref.WeakSet()
        self.used = 0
        self._row_bytes = sum(array.nbytes for array in rows.values())

    @property
    def nbytes(self) -> int:
        """Memory of the rows and logits."""
        return self._row_bytes + (0 if self.logits is None else self.logits.nbytes)


class PrefixCache:
    """What is stored of prompts: at most ``budget`` bytes, the least recently used goes first.

    Pinned blocks count, but stay even where they alone exceed the budget. Not thread-safe.
    """

    def __init__(self, runner: ModelRunner, *, budget: int, block_size: int) -> None:
        """Store rows of ``runner``; ``block_size`` is the number of tokens in a block: the prefill's chunk."""
        self.budget = budget
        self.block_size = block_size
        self.granularity = runner.prefix_granularity or block_size
        self._runner = runner
        self._root = PrefixBlock(None, b"", 0, {})
        self._clock = 0

    @property
    def nbytes(self) -> int:
        """Memory in use."""
        return sum(block.nbytes for block in self._blocks())

    def restore(self, slot: int, ids: Ids) -> tuple[int, Logits | None]:
        """Copy the longest stored beginning of ``ids``, int64 [T], into a slot.

        Returns its length n, 0 <= n <= T, and the logits after it, float32 [V] (read-only), if n is T, else None.
        """
        path = self._path(ids)
        self._touch(path)
        length = sum(len(block.ids) for block in path)
        logits = path[-1].logits if path and length == len(ids) else None
        if logits is None:
            if self.granularity < self.block_size:
                length += self._extend(path, ids[length:])
            length = min(length, len(ids) - 1) // self.granularity * self.granularity
        for block in path:
            count = min(length - block.start, len(block.ids))
            if count > 0:
                self._runner.write(slot, block.start, {name: rows[:, :count] for name, rows in block.rows.items()})
        return length, logits

    def store(self, slot: int, ids: Ids, logits: Logits | None, pin: Pin | None = None) -> None:
        """Store a slot's first positions, which hold ``ids``, int64 [T], and the logits after the last one.

        ``logits`` are float32 [V], None where they are not known. Copies what is not stored already, as far as the
        budget and the system's memory allow, and all of it for ``pin``; raises MemoryError where it cannot.
        """
        self.add(ids, lambda start, stop: self._runner.read(slot, start, stop), logits, pin)

    def add(self, ids: Ids, read: Callable[[int, int], Rows], logits: Logits | None, pin: Pin | None) -> None:
        """As `store`, where ``read`` returns new arrays with the rows from one position to another."""
        path: list[PrefixBlock] = []
        block = self._root
        for start in range(0, len(ids), self.block_size):
            key = ids[start : start + self.block_size].tobytes()
            stop = min(start + self.block_size, len(ids))
            if key not in block.children:
                needed = (stop - start) * self._runner.bytes_per_position
                if not self._make_room(needed, spare=block) and pin is None:
                    break
                try:
                    child = PrefixBlock(block, key, start, read(start, stop))
                except MemoryError:
                    if pin is not None:
                        raise
                    break
                self._drop_contained(block, key)
                block.children[key] = child
            block = block.children[key]
            path.append(block)
        else:
            if logits is not None and block.logits is None:
                block.logits = logits.copy()
                block.logits.setflags(write=False)
            if pin is not None:
                block.pins.add(pin)
                pin.blocks = path.copy()
        self._touch(path)
        self._make_room(0)

    def release(self, pin: Pin) -> None:
        """Unpin a prefix, which stays as far as the budget allows."""
        for block in pin.blocks[-1:]:
            block.pins.discard(pin)
        pin.blocks = []
        self._make_room(0)

    def _path(self, ids: Ids) -> list[PrefixBlock]:
        """The stored blocks, one after the other, of which each is the next of ``ids`` as a whole."""
        path, block = [], self._root
        for start in range(0, len(ids), self.block_size):
            child = block.children.get(ids[start : start + self.block_size].tobytes())
            if child is None:
                break
            path.append(child)
            block = child
        return path

    def _extend(self, path: list[PrefixBlock], rest: Ids) -> int:
        """Append the block after ``path`` that has most tokens in common with ``rest``; returns how many."""
        children = (path[-1] if path else self._root).children.values()
        closest = max(children, key=lambda child: _common(child.ids, rest), default=None)
        if closest is None:
            return 0
        self._touch([closest])
        path.append(closest)
        return _common(closest.ids, rest)

    def _touch(self, path: list[PrefixBlock]) -> None:
        self._clock += 1
        for block in path:
            block.used = self._clock

    def _make_room(self, needed: int, spare: PrefixBlock | None = None) -> bool:
        """Drop blocks that nothing follows, the least recently used first, until ``needed`` bytes more fit.

        Returns whether they do; for what can never fit nothing is dropped.
        """
        fits = needed <= self.budget
        excess = self.nbytes + (needed if fits else 0) - self.budget
        while excess > 0:
            idle = [b for b in self._blocks() if not b.children and not b.pins and b is not spare]
            victim = min(idle, key=lambda block: block.used, default=None)
            if victim is None or victim.parent is None:
                return False
            del victim.parent.children[victim.key]
            excess -= victim.nbytes
        return fits

    def _drop_contained(self, parent: PrefixBlock, key: bytes) -> None:
        """Drop blocks that are the beginning of a new one, where every beginning of a block can be used."""
        if self.granularity == 1:
            for other in list(parent.children.values()):
                if key.startswith(other.key) and not other.pins:
                    del parent.children[other.key]

    def _blocks(self) -> Iterator[PrefixBlock]:
        rest = list(self._root.children.values())
        while rest:
            block = rest.pop()
            yield block
            rest += block.children.values()


def _common(first: Ids, second: Ids) -> int:
    """How many tokens two sequences begin with alike."""
    length = min(len(first), len(second))
    different = np.flatnonzero(first[:length] != second[:length])
    return int(different[0]) if different.size else length
