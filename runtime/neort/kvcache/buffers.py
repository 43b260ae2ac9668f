"""Key-value cache: one buffer per layer and kind, read and written in place by the graph.

A buffer has shape [slots, H, M, D]; slot i belongs to the i-th running sequence. M is the model's full context, but
the memory is anonymous and untouched pages cost nothing, so a cache grows by use.

Local layers see the last ``window`` positions only. Since the heads of a buffer lie M * D apart wherever one begins to
read, the same buffer bound from row r on is a past without its first r positions: attention then costs as much as the
window, and nothing is copied or lost.

In int8 a buffer takes a quarter of the memory. onnxruntime's attention then goes over the past in tiles, which begin
where the past does: bound from another row on, it would add up in another order. So there the past is always whole.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from ..arrays import AnyArray, Rows
from ..bundle import ModelSpec, graph_names
from ..errors import OutOfMemoryError

__all__ = ["CACHE_TYPES", "CacheType", "KVCache"]

CacheType = Literal["fp32", "int8"]
CACHE_TYPES: dict[CacheType, np.dtype[Any]] = {"fp32": np.dtype(np.float32), "int8": np.dtype(np.int8)}


class KVCache:
    """The cache of up to ``max_slots`` sequences; ``buffers`` are named "0.key", "0.value", "1.key" and so on."""

    def __init__(self, spec: ModelSpec, max_slots: int, kv_cache: CacheType = "fp32") -> None:
        self.spec = spec
        self.kv_cache: CacheType = kv_cache
        self.max_slots = max_slots
        self.slots = 0
        self.buffers: dict[str, AnyArray] = {}
        self._memory: dict[str, mmap.mmap] = {}

    @property
    def bytes_per_position(self) -> int:
        """Memory that one position of one sequence takes, in all layers."""
        return len(self._names) * self.spec.num_heads * self.spec.head_dim * CACHE_TYPES[self.kv_cache].itemsize

    @property
    def row_types(self) -> dict[str, np.dtype[Any]]:
        """The dtype of each buffer, by its name; known before there are any."""
        return dict.fromkeys(self._names, CACHE_TYPES[self.kv_cache])

    def reserve(self, slots: int, lengths: list[int]) -> None:
        """Make room for ``slots`` sequences, keeping the first ``lengths[i]`` positions of slot i.

        Where there are too few, the buffers move, and what was bound to them must not be used any more.

        Raises OutOfMemoryError when the system refuses the address space; every slot is as it was then.
        """
        if slots <= self.slots:
            return
        slots = min(self.max_slots, max(slots, 2 * self.slots))
        grown = {name: _allocate((slots, *self._slot_shape), CACHE_TYPES[self.kv_cache]) for name in self._names}
        for name in self._names:  # one after the other: the old buffer goes before pages of the next one are touched
            buffer, memory = grown.pop(name)
            if name in self.buffers:
                for slot, length in enumerate(lengths):
                    buffer[slot, :, :length] = self.buffers[name][slot, :, :length]
            self.buffers[name], self._memory[name] = buffer, memory
        self.slots = slots  # last: a buffer may have more slots than this, never fewer

    def release(self, slot: int) -> None:
        """Give a slot's whole pages back to the system; their contents are lost.

        Linux takes them at once, macOS when it needs them. Elsewhere nothing happens.
        """
        advice = getattr(mmap, "MADV_DONTNEED", None) if sys.platform == "linux" else getattr(mmap, "MADV_FREE", None)
        if advice is None or slot >= self.slots:
            return
        for name, buffer in self.buffers.items():
            size = buffer[slot].nbytes
            first = -(-slot * size // mmap.PAGESIZE) * mmap.PAGESIZE
            last = (slot + 1) * size // mmap.PAGESIZE * mmap.PAGESIZE
            if last > first:
                self._memory[name].madvise(advice, first, last - first)

    def move(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Copy the first ``length`` positions of one slot over another, from ``start`` on."""
        for buffer in self.buffers.values():
            buffer[target, :, start:length] = buffer[source, :, start:length]

    def read(self, slot: int, start: int, stop: int) -> Rows:
        """Return a copy of positions ``start`` to ``stop`` of a slot: per buffer [H, stop - start, D], of its dtype."""
        return {name: buffer[slot, :, start:stop].copy() for name, buffer in self.buffers.items()}

    def write(self, slot: int, start: int, rows: Rows) -> None:
        """Overwrite the positions of a slot from ``start`` on with what `read` returned."""
        for name, buffer in self.buffers.items():
            buffer[slot, :, start : start + rows[name].shape[1]] = rows[name]

    @contextlib.contextmanager
    def untouched(self, slot: int, first: int) -> Iterator[None]:
        """Undo what a run writes into row 0 of a slot, or into row ``first`` where the past of a layer begins there."""
        kept = {row: self.read(slot, row, row + 1) for row in (0, first)}
        try:
            yield
        finally:
            try:
                self._restore(slot, kept)
            except BaseException:
                self._restore(slot, kept)  # another sequence's rows: they return, whatever was raised in the middle
                raise

    def _restore(self, slot: int, kept: dict[int, Rows]) -> None:
        for row, rows in kept.items():
            self.write(slot, row, rows)

    @property
    def _slot_shape(self) -> tuple[int, int, int]:
        return self.spec.num_heads, self.spec.max_position_embeddings, self.spec.head_dim

    @property
    def _names(self) -> list[str]:
        return graph_names.cache_parts(self.spec.num_layers)


def _allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[AnyArray, mmap.mmap]:
    """Zeroed memory that the system commits page by page.

    numpy asks the kernel for huge pages, which commits a whole buffer at its first touch. One head's rows more than
    ``shape`` follow it, so that a past that begins later ends in memory of the buffer.
    """
    count = int(np.prod(shape))
    nbytes = dtype.itemsize * (count + int(np.prod(shape[2:])))
    try:
        if sys.platform == "win32":
            memory = mmap.mmap(-1, nbytes)
        else:
            memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, MemoryError) as error:
        raise OutOfMemoryError(
            f"the system gives no memory for a key-value cache of {shape[0]} sequences ({nbytes:,} bytes in one of its "
            f"buffers: {error}); lower max_batch_size, or give the process more memory"
        ) from error
    return np.frombuffer(memory, dtype, count).reshape(shape), memory
