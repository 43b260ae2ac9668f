"""Processors that depend on how long a text is: what may not end it yet, what must begin it, what must end it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import Ids, Logits
from .protocol import RULED_OUT

__all__ = ["ExponentialDecay", "ForcedTokens", "MinLength", "SuppressAtBegin", "SuppressTokens"]

LARGEST = float(np.finfo(np.float32).max)  # logit of an end-of-text token


@dataclass(frozen=True)
class SuppressTokens:
    """Rules out ``tokens``; transformers' SuppressTokensLogitsProcessor. Ids outside the vocabulary are ignored."""

    tokens: tuple[int, ...]

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        suppressed: Logits = logits.copy()
        suppressed[[token for token in self.tokens if token < logits.shape[0]]] = RULED_OUT
        return suppressed


@dataclass(frozen=True)
class MinLength(SuppressTokens):
    """Rules out ``tokens``, which end a text, while prompt and text together hold fewer than ``least`` tokens.

    transformers' MinLengthLogitsProcessor, and its MinNewTokensLengthLogitsProcessor with the prompt's length in
    ``least``.
    """

    least: int

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        return logits if ids.shape[0] >= self.least else super().__call__(ids, logits)


@dataclass(frozen=True)
class SuppressAtBegin(SuppressTokens):
    """Rules out ``tokens`` as the one after ``begin`` tokens; transformers' SuppressTokensAtBeginLogitsProcessor."""

    begin: int

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        return logits if ids.shape[0] != self.begin else super().__call__(ids, logits)


@dataclass(frozen=True)
class ForcedTokens:
    """Rules out all but ``tokens`` after ``length`` tokens, and makes these equal.

    transformers' ForcedBOSTokenLogitsProcessor and ForcedEOSTokenLogitsProcessor.
    """

    tokens: tuple[int, ...]
    length: int

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        if ids.shape[0] != self.length:
            return logits
        forced = np.full_like(logits, RULED_OUT)
        forced[[token for token in self.tokens if token < logits.shape[0]]] = 0.0
        return forced


@dataclass(frozen=True)
class ExponentialDecay:
    """Makes end-of-text tokens more probable with each token after the first ``start``, by powers of ``factor``.

    transformers' ExponentialDecayLengthPenalty; a text that has grown n tokens beyond ``start`` adds the logit's
    absolute value, times factor ** n - 1.
    """

    tokens: tuple[int, ...]
    start: int
    factor: float

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        beyond = ids.shape[0] - self.start
        if beyond <= 0:
            return logits
        tokens = [token for token in self.tokens if token < logits.shape[0] and np.isfinite(logits[token])]
        decayed: Logits = logits.copy()
        own = logits[tokens].astype(np.float64)
        with np.errstate(over="ignore"):
            favoured = own + np.abs(own) * min(np.float64(self.factor) ** beyond - 1.0, LARGEST)
            decayed[tokens] = np.minimum(favoured, LARGEST)
        return decayed
