"""Log-probabilities of tokens, and the most probable ones, from the model's logits as they are.

Knows arrays; knows nothing about processors, sequences or text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import AnyArray, Ids, Logits

__all__ = ["LogProbabilities", "TokenLogprob", "largest", "log_probabilities"]

_BUCKETS = 1024  # into which entries are dealt, to find the largest without ordering them all


@dataclass(frozen=True)
class TokenLogprob:
    """How probable the model held a token, before any processor: natural logarithms.

    ``top`` are the most probable tokens in its place with theirs, best first; the token itself may be among them.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class LogProbabilities:
    """The distribution after one position; what costs a pass over the vocabulary is done once."""

    def __init__(self, logits: Logits, count: int) -> None:
        """``logits`` are float32 [V], of finite maximum; ``count`` is how many of the most probable tokens to name."""
        self._logits = logits
        self._total = _log_sum(logits)
        self._top = tuple((int(token), self._of(token)) for token in largest(logits, count)) if count else ()

    def token(self, token_id: int) -> TokenLogprob:
        """Return what there is to know about one token in this place."""
        return TokenLogprob(token_id, self._of(token_id), self._top)

    def _of(self, token_id: int) -> float:
        return float(self._logits[token_id]) - self._total


def log_probabilities(logits: Logits) -> Logits:
    """Return the log_softmax of float32 [V] as float32 [V], as torch computes it, but for rounding."""
    shifted: Logits = logits - logits.max()
    shifted -= np.float32(np.log(np.exp(shifted).sum(dtype=np.float64)))
    return shifted


def largest(values: AnyArray, count: int) -> Ids:
    """Return the indices of the ``count`` largest entries of [N], best first, of equal ones the first first.

    All N where there are fewer. Entries are dealt into buckets: ``count`` of these have a maximum at or above the
    largest maximum but ``count`` - 1, so only entries that are can be among the largest.
    """
    count = min(count, len(values))
    if count == 0:
        return np.empty(0, np.int64)
    rows, bound = len(values) // _BUCKETS, -np.inf
    if rows > 1 and count <= _BUCKETS:
        maxima = values[: rows * _BUCKETS].reshape(rows, _BUCKETS).max(axis=0)
        bound = np.partition(maxima, _BUCKETS - count)[_BUCKETS - count]
    candidates = np.flatnonzero(values >= bound)
    at = len(candidates) - count
    kth = np.partition(values[candidates], at)[at]
    candidates = candidates[values[candidates] >= kth]
    order = np.argsort(-values[candidates], kind="stable")
    ids: Ids = candidates[order][:count]
    return ids


def _log_sum(logits: Logits) -> float:
    """The logarithm of the sum of exponentials, exact to some 1e-7."""
    maximum = logits.max()
    return float(maximum) + float(np.log(np.exp(logits - maximum).sum(dtype=np.float64)))
