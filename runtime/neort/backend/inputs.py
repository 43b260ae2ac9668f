"""What a run of a decoder graph is fed, but for the cache: token ids, positions and lengths.

onnxruntime splits the past of a decode step among threads where these outnumber the heads of all sequences, and adds
up in another order (see `attention.heads_per_thread`). In a batch of several lengths it never does. So a step that it
would split gets a dummy: one more sequence, of a single token behind no past. Its products cost little, since
they read the same weights, and each row keeps the bits that it has in any batch and on any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RunInputs", "needs_dummy"]

Ids = NDArray[np.int64]
Lengths = NDArray[np.int32]


def needs_dummy(rows: int, lengths: Lengths, split_below: int) -> bool:
    """Whether a run of ``rows`` tokens behind each of ``lengths`` [B] cached positions would be split among threads.

    ``split_below`` is the number of sequences from which on none is, see `loading.split_below`.
    """
    return rows == 1 and len(lengths) < split_below and bool((lengths == lengths[0]).all())


class RunInputs:
    """The inputs of runs that append ``rows`` tokens to each of ``count`` sequences; every run fills them anew.

    A ``dummy`` is the last sequence, in the slot behind the others: token 0 at position 0. The run writes its key and
    value into row 0 of that slot, in local layers into the row where their past begins.
    """

    def __init__(self, count: int, rows: int, keep: int, *, dummy: bool) -> None:
        """``keep`` is how many of the last rows get logits."""
        slots = count + dummy
        self.feeds: dict[str, NDArray[Any]] = {
            "input_ids": np.zeros((slots, rows), np.int64),
            "position_ids": np.zeros((slots, rows), np.int64),
            "seqlens_k": np.zeros(slots, np.int32),
            "total_sequence_length": np.zeros((), np.int32),
            "local_seqlens_k": np.zeros(slots, np.int32),
            "local_total_sequence_length": np.zeros((), np.int32),
            "logits_to_keep": np.array(keep, np.int64),
        }
        self._count = count
        self._offsets = np.arange(rows)

    def fill(self, token_ids: Ids, lengths: Lengths, first: int) -> None:
        """``token_ids`` [B, S] follow ``lengths`` [B] cached positions; local layers see those from ``first`` on."""
        count, feeds = self._count, self.feeds
        last = lengths + np.int32(len(self._offsets) - 1)
        longest = last.max() + 1
        feeds["input_ids"][:count] = token_ids
        feeds["position_ids"][:count] = lengths[:, None] + self._offsets
        feeds["seqlens_k"][:count] = last
        feeds["total_sequence_length"][...] = longest
        feeds["local_seqlens_k"][:count] = last - first
        feeds["local_total_sequence_length"][...] = longest - first
