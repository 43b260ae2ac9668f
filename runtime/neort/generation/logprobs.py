"""Log-probabilities of tokens, and the most probable ones, from the model's logits as they are.

Knows arrays; knows nothing about processors, sequences or text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Logits
from .largest import largest

__all__ = ["LogProbabilities", "TokenLogprob", "log_probabilities"]


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


def _log_sum(logits: Logits) -> float:
    """The logarithm of the sum of exponentials, exact to some 1e-7."""
    maximum = logits.max()
    return float(maximum) + float(np.log(np.exp(logits - maximum).sum(dtype=np.float64)))
