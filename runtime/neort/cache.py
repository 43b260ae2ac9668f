"""Key-value cache: one buffer per layer and kind, read and written in place by the graph.

A buffer has shape [slots, H, M, D]; slot i belongs to the i-th running sequence. M is the model's full context, but
the memory is anonymous and untouched pages cost nothing, so a cache grows by use.
"""

from __future__ import annotations

import mmap
import sys

import numpy as np
from numpy.typing import NDArray

from .bundle import ModelSpec

__all__ = ["KVCache"]

Buffer = NDArray[np.float32]


class KVCache:
    """The cache of up to ``max_slots`` sequences; ``buffers`` are named "0.key", "0.value", "1.key" and so on."""

    def __init__(self, spec: ModelSpec, max_slots: int) -> None:
        self.spec = spec
        self.max_slots = max_slots
        self.slots = 0
        self.buffers: dict[str, Buffer] = {}

    def reserve(self, slots: int, lengths: list[int]) -> bool:
        """Make room for ``slots`` sequences, keeping the first ``lengths[i]`` positions of slot i.

        Returns whether the buffers moved, so that what was bound to them must be bound again.
        Raises MemoryError when the system refuses the address space.
        """
        if slots <= self.slots:
            return False
        slots = min(self.max_slots, max(slots, 2 * self.slots))
        grown = {name: _allocate((slots, *self._slot_shape)) for name in self._names}
        for name, old in self.buffers.items():
            for slot, length in enumerate(lengths):
                grown[name][slot, :, :length] = old[slot, :, :length]
        self.buffers, self.slots = grown, slots
        return True

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` positions of one slot over another."""
        for buffer in self.buffers.values():
            buffer[target, :, :length] = buffer[source, :, :length]

    @property
    def _slot_shape(self) -> tuple[int, int, int]:
        return self.spec.num_heads, self.spec.max_position_embeddings, self.spec.head_dim

    @property
    def _names(self) -> list[str]:
        return [f"{i}.{kind}" for i in range(self.spec.num_layers) for kind in ("key", "value")]


def _allocate(shape: tuple[int, ...]) -> Buffer:
    """Zeroed float32 memory that the system commits page by page.

    numpy asks the kernel for huge pages, which commits a whole buffer at its first touch.
    """
    count = int(np.prod(shape))
    if sys.platform == "win32":
        memory = mmap.mmap(-1, count * 4)
    else:
        memory = mmap.mmap(-1, count * 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, np.float32).reshape(shape)
