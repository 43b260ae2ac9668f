"""What runs the model for everything above it: the one protocol between the engine and a backend.

Knows arrays and slots; knows nothing about requests, text, or what computes the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .arrays import Ids, Lengths, Logits, Rows
from .bundle import ModelSpec

__all__ = ["IDLE", "PREFILL_CHUNK", "ModelRunner", "prefill_chunk_of"]

PREFILL_CHUNK = 256  # tokens of a prompt in one run at most; faster than 128 and 512: see docs/design.md
LEAST_CHUNK = 128  # fewer read all weights too often; see docs/engine.md
STALL = 30e9  # multiplications that sequences may have to wait for: 256 tokens of a 125M model take 22e9
IDLE = -1  # the length of a slot that a step leaves alone


def prefill_chunk_of(spec: ModelSpec) -> int:
    """How many tokens of a prompt a run should have, so that sequences which are decoded do not wait long for it.

    It follows from the model's dimensions alone: where a prompt is cut decides on its last bits.
    """
    weights = 12 * spec.num_layers * spec.hidden_size**2
    return PREFILL_CHUNK if weights * PREFILL_CHUNK <= STALL else LEAST_CHUNK


class ModelRunner(Protocol):
    """A model and the cache of the sequences that it runs; slots 0 to n - 1 hold the running ones.

    Arguments are trusted: token ids are of the vocabulary, slots are reserved and positions lie within the model's.
    Not thread-safe. A method that raises leaves what the slots hold as it was, but for the positions that it was to
    write, and may be called again.
    """

    spec: ModelSpec

    @property
    def max_batch_size(self) -> int:
        """The number of sequences that can be decoded together."""

    @property
    def bytes_per_position(self) -> int:
        """Cache memory that one position of one sequence takes, in all layers."""

    @property
    def prefix_granularity(self) -> int | None:
        """A prefill may be cut at each multiple of this, whatever its chunks, without a change in any bit.

        None: only where its chunks end. With 1, rows of decode steps have the bits of a prefill's, too.
        """

    def reserve(self, slots: int, lengths: list[int]) -> None:
        """Make room for ``slots`` sequences; slot i keeps its first ``lengths[i]`` positions.

        Raises OutOfMemoryError where the system refuses the memory; every slot is as it was then.
        """

    def move(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Copy the first ``length`` positions of one slot to another, where the sequence continues.

        Those before ``start`` are the same in both already.
        """

    def release(self, slot: int) -> None:
        """Give the memory of a slot that no sequence uses back to the system."""

    def read(self, slot: int, start: int, stop: int) -> Rows:
        """Return a copy of positions ``start`` to ``stop`` of a slot: per buffer [H, stop - start, D], of its dtype."""

    def write(self, slot: int, start: int, rows: Rows) -> None:
        """Overwrite the positions of a slot from ``start`` on with what `read` returned."""

    def prefill(self, slot: int, token_ids: Ids, start: int, logits_to_keep: int) -> Logits:
        """Append ``token_ids``, int64 [S], to a slot that holds ``start`` positions; other slots are left alone.

        Returns the logits of the last ``logits_to_keep`` positions, float32 [logits_to_keep, V], of which there may be
        0 to S.
        """

    def prefill_prompts(self, slot: int, prompts: Sequence[Ids], logits_to_keep: int) -> Logits:
        """Begin the slots from ``slot`` on with one prompt each, int64 [T]; other slots are left alone.

        Returns the logits of each one's own last ``logits_to_keep`` positions, of which there may be 0 to the length of
        the longest prompt, float32 [B, logits_to_keep, V]; rows before a prompt's first mean nothing. Each prompt gets
        `prefill`'s bits.
        """

    def decode(self, token_ids: Ids, lengths: Lengths) -> Logits:
        """Append one of ``token_ids``, int64 [B], to each of the first B slots, which hold ``lengths``, int32 [B].

        A slot of length `IDLE` is left alone, and its logits mean nothing; so are the slots from B on. Returns the next
        token's logits, float32 [B, V], which the next call may overwrite.
        """

    def extend(self, token_ids: Ids, start: int) -> Logits:
        """Append the last token and drafted ones, int64 [S], to the first slot, which holds ``start`` positions.

        Returns the logits after each of them, float32 [S, V], which the next call may overwrite.
        """
