"""Windows over a text that is longer than the context: each token is foretold once, with much before it.

As `lm_eval.utils.get_rolling_token_windows` has them with a context of one token: windows of the model's full length
follow each other, and the last one reaches back so far that it is full, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import Ids

__all__ = ["Window", "rolling_windows"]


@dataclass(frozen=True, eq=False)
class Window:
    """Tokens to read, int64 [T], and the ones to foretell at its last positions, int64 [n], 1 <= n <= T."""

    token_ids: Ids
    targets: Ids


def rolling_windows(token_ids: Ids, prefix: int, length: int) -> Iterator[Window]:
    """Windows of up to ``length`` tokens whose targets, one after the other, are ``token_ids``.

    ``prefix`` is the token before the first one.
    """
    whole = np.concatenate([np.array([prefix], np.int64), token_ids])
    for start in range(0, len(token_ids), length):
        stop = min(start + length, len(token_ids))  # whole[i] foretells token_ids[i]
        yield Window(whole[max(0, stop - length) : stop], token_ids[start:stop])
