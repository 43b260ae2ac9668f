"""Processors that treat every logit alike: temperature, normalization, repair of what is no number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import Ids, Logits
from .protocol import RULED_OUT, have_candidates

__all__ = ["RemoveInvalid", "Renormalize", "Temperature"]

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Temperature:
    """Divides the logits by ``temperature``: below 1 sharpens the distribution, above 1 flattens it.

    Ackley, Hinton and Sejnowski 1985, "A Learning Algorithm for Boltzmann Machines", Cognitive Science 9.
    """

    temperature: float
    changes_argmax = False

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        with np.errstate(over="ignore"):  # of the largest numbers, which RemoveInvalid makes
            return self.over(logits)

    def over(self, logits: Logits) -> Logits:
        """Divide logits of any shape."""
        scaled: Logits = logits / np.float32(self.temperature)
        return scaled


@dataclass(frozen=True)
class Renormalize:
    """Makes logits the logarithms of probabilities; transformers' LogitNormalization."""

    changes_argmax = False

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        if not have_candidates(logits):
            return logits
        tokens = np.flatnonzero(logits > RULED_OUT)
        with np.errstate(over="ignore"):
            shifted = logits[tokens] - logits.max()
        normalized = np.full_like(logits, RULED_OUT)
        normalized[tokens] = shifted - np.float32(np.log(np.exp(shifted).sum(dtype=np.float64)))
        return normalized


@dataclass(frozen=True)
class RemoveInvalid:
    """Makes NaN 0, and infinities the largest and the smallest number; transformers' InfNanRemoveLogitsProcessor.

    So a token that was ruled out before is possible again, though hardly ever chosen.
    """

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        invalid = np.flatnonzero(~np.isfinite(logits))
        if not invalid.size:
            return logits
        repaired: Logits = logits.copy()
        repaired[invalid] = np.nan_to_num(logits[invalid], nan=0.0, posinf=LARGEST, neginf=-LARGEST)
        return repaired
