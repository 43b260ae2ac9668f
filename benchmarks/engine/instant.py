"""A model that takes no time: its logits are ready, so that what is left of a step is the engine's own work.

Knows the protocol between engine and model; knows nothing about bundles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neort.arrays import Ids, Lengths, Logits, Rows
from neort.bundle import ModelSpec

__all__ = ["InstantRunner"]


class InstantRunner:
    """A `ModelRunner` without a model or a cache, which answers every run with some of the same logits."""

    bytes_per_position = 1
    prefix_granularity = None

    def __init__(self, steps: Sequence[Logits], positions: int) -> None:
        """``steps``, float32 [B, V] each, are what decode steps return in turn for up to B sequences."""
        self.max_batch_size, vocab_size = steps[0].shape
        self.spec = ModelSpec(vocab_size, 8, 1, 1, 8, positions, positions, ("global",))
        self._steps, self._turn = steps, 0

    def reserve(self, slots: int, lengths: list[int]) -> None:
        """There is always room."""

    def move(self, source: int, target: int, length: int, start: int = 0) -> None:
        """There is nothing to copy."""

    def release(self, slot: int) -> None:
        """There is nothing to give back."""

    def read(self, slot: int, start: int, stop: int) -> Rows:
        """There are no buffers."""
        return {}

    def write(self, slot: int, start: int, rows: Rows) -> None:
        """There are no buffers."""

    def prefill(self, slot: int, token_ids: Ids, start: int, logits_to_keep: int) -> Logits:
        """The same rows for every prompt."""
        return np.resize(self._steps[0], (logits_to_keep, self.spec.vocab_size))

    def prefill_prompts(self, slot: int, prompts: Sequence[Ids], logits_to_keep: int) -> Logits:
        """The same rows for every prompt."""
        return np.stack([self.prefill(slot, prompt, 0, logits_to_keep) for prompt in prompts])

    def decode(self, token_ids: Ids, lengths: Lengths) -> Logits:
        """The next of the steps."""
        self._turn += 1
        return self._steps[self._turn % len(self._steps)][: len(token_ids)]

    def extend(self, token_ids: Ids, start: int) -> Logits:
        """As a step."""
        return self.decode(token_ids, np.zeros(len(token_ids), np.int32))
