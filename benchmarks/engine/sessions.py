"""Sessions for measuring: with a full cache, and prompts prefilled as the engine does it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neort.arrays import Ids
from neort.backend import DecoderSession
from neort.bundle import ModelSpec
from neort.engine import PREFILL_CHUNK

__all__ = ["fill_cache", "prefill", "random_ids"]


def random_ids(spec: ModelSpec, count: int, seed: int | Sequence[int] = 0) -> Ids:
    """Token ids [count], the same in every run."""
    return np.random.default_rng(seed).integers(0, spec.vocab_size, count)


def fill_cache(session: DecoderSession) -> None:
    """Write every slot: memory that nobody has written is one page of zeros, which is always near."""
    rows = session.read(0, 0, session.spec.max_position_embeddings)
    for slot in range(session.max_batch_size):
        session.write(slot, 0, {name: np.full_like(array, 1) for name, array in rows.items()})


def prefill(session: DecoderSession, ids: Ids) -> None:
    """Prefill a prompt in the first slot, chunk by chunk; the last one yields the last token's logits."""
    for start in range(0, len(ids), PREFILL_CHUNK):
        chunk = ids[start : start + PREFILL_CHUNK]
        session.prefill(0, chunk, start, int(start + len(chunk) == len(ids)))
