"""Filters: which of the candidates for the next token remain.

A filter looks at the logits of the candidates alone, in the order of their ids, so that each costs what those that the
filters before it have left cost. A candidate of logit -inf is none: a filter may keep or drop it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...arrays import Ids, Logits
from ..largest import kth_largest, promising
from .protocol import RULED_OUT, have_candidates
from .scaling import Temperature

__all__ = ["Filter", "Filters", "Kept", "MinP", "TopK", "TopNSigma", "TopP", "Xtc", "weights"]

Kept = NDArray[np.bool_]


class Filter(ABC):
    """A logits processor that rules out tokens and leaves the logits of the others as they are.

    Where it keeps at least ``least`` candidates, these are those that transformers keeps in beam sampling.
    """

    changes_argmax = False

    @abstractmethod
    def keep(self, logits: Logits) -> Kept | None:
        """Return which candidates remain, bool [C]; None is all. ``logits``, float32 [C], are theirs, C >= 1."""

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        if not have_candidates(logits):
            return logits
        with np.errstate(over="ignore"):  # of differences between the largest numbers
            kept = self.keep(logits)
        return logits if kept is None else np.where(kept, logits, RULED_OUT)


class Filters:
    """Several filters, one after the other, in one pass over the vocabulary."""

    changes_argmax = False

    def __init__(self, filters: Sequence[Filter]) -> None:
        self.filters = list(filters)

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        if not have_candidates(logits):
            return logits
        with np.errstate(over="ignore"):
            tokens, candidates = self._passed(None, logits)
        if tokens is None:
            return logits
        filtered = np.full_like(logits, RULED_OUT)
        filtered[tokens] = candidates
        return filtered

    def candidates(self, logits: Logits, temperature: Temperature | None = None) -> tuple[Ids | None, Logits]:
        """Return the tokens that remain, in ascending order, and their logits; None for all tokens.

        What `Temperature` and then these filters leave of ``logits`` but for -inf, found without a pass over the
        vocabulary for each: where the first filter is top_k, few tokens are looked at at all. Where logits hold NaN or
        +inf, or are all -inf, so do those that are returned, of all tokens.
        """
        first = self.filters[0]
        with np.errstate(over="ignore", invalid="ignore"):
            tokens = promising(logits, first.k) if isinstance(first, TopK) else None
            if tokens is not None:
                scaled = _over(temperature, logits[tokens])
                if np.isfinite(scaled).all():
                    return self._passed(tokens, scaled)
            scaled = _over(temperature, logits)
            return self._passed(None, scaled) if have_candidates(scaled) else (None, scaled)

    def _passed(self, tokens: Ids | None, candidates: Logits) -> tuple[Ids | None, Logits]:
        """What the filters leave of ``candidates`` [C], the logits of ``tokens``; None stands for all tokens."""
        for each in self.filters:
            kept = each.keep(candidates)
            if kept is None or np.count_nonzero(kept) == kept.shape[0]:
                continue
            (chosen,) = kept.nonzero()
            candidates = candidates[chosen]
            tokens = chosen if tokens is None else tokens[chosen]
        return tokens, candidates


@dataclass(frozen=True)
class TopK(Filter):
    """Keeps the ``k`` largest logits, and all that equal the smallest of these.

    Fan, Lewis and Dauphin 2018, "Hierarchical Neural Story Generation", arXiv:1805.04833.
    """

    k: int

    def keep(self, logits: Logits) -> Kept | None:
        """See `Filter`."""
        return None if self.k >= logits.shape[0] else logits >= kth_largest(logits, self.k)


@dataclass(frozen=True)
class TopP(Filter):
    """Keeps the smallest set of most probable tokens whose probabilities reach ``p`` together (nucleus).

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751, in transformers'
    form: sort upwards and drop tokens while the cumulative probability is at most 1 - p, but never the last.
    Of equal logits at the cut those with lower ids are dropped first, as a stable sort has it.
    """

    p: float
    least: int = 1

    def keep(self, logits: Logits) -> Kept | None:
        """See `Filter`."""
        tail, largest = np.float32(1.0 - self.p), logits.max()
        weight = np.exp(logits - largest)
        total = weight.sum(dtype=np.float64)
        # V weights below tail / 2V of the total stay below the tail all together: no need to sort them.
        likely = weight > np.float32(total * tail / (2 * logits.shape[0]))
        ordered = logits[likely]
        if ordered.shape[0] < self.least:
            ordered = logits.copy()
        ordered.sort()
        summands = np.exp(ordered - largest, dtype=np.float64)
        unlikely = max(0.0, total - summands.sum())
        cumulative = ((summands.cumsum() + unlikely) / total).astype(np.float32)
        dropped = int(cumulative.searchsorted(tail, side="right"))
        dropped = max(min(dropped, ordered.shape[0] - self.least), 0)
        kept: Kept = logits >= ordered[dropped]
        ties = dropped - int(ordered.searchsorted(ordered[dropped]))
        if ties > 0:
            kept[np.flatnonzero(logits == ordered[dropped])[:ties]] = False
        return kept


@dataclass(frozen=True)
class MinP(Filter):
    """Keeps the tokens that are at least ``p`` times as probable as the most probable one.

    Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs", arXiv:2407.01082.
    """

    p: float
    least: int = 1

    def keep(self, logits: Logits) -> Kept | None:
        """See `Filter`."""
        kept: Kept = weights(logits) >= np.float32(self.p)
        if self.least > 1:
            kept[np.argsort(-logits, kind="stable")[: self.least]] = True
        return kept


@dataclass(frozen=True)
class TopNSigma(Filter):
    """Keeps the tokens whose logits lie within ``n`` standard deviations of the largest.

    Tang et al. 2024, "Top-nsigma: Not All Logits Are You Need", arXiv:2411.07641, in llama.cpp's form: the deviation
    is that of all tokens that are not ruled out.
    """

    n: float

    def keep(self, logits: Logits) -> Kept | None:
        """See `Filter`."""
        possible = logits[logits > RULED_OUT] if logits.min() == RULED_OUT else logits
        with np.errstate(over="ignore", invalid="ignore"):  # of the largest numbers: then all are kept
            deviation = np.sqrt(np.square(possible - possible.mean()).mean())
            kept: Kept = ~(logits < logits.max() - np.float32(self.n) * deviation)
        return kept


@dataclass
class Xtc(Filter):
    """Excludes the top choices: with a ``probability``, all tokens as probable as ``threshold`` but the last of them.

    p-e-w 2024, https://github.com/oobabooga/text-generation-webui/pull/6335, in llama.cpp's form; of equally probable
    tokens the one with the highest id is the last.
    """

    probability: float
    threshold: float
    generator: np.random.Generator
    changes_argmax = True

    def keep(self, logits: Logits) -> Kept | None:
        """See `Filter`; draws one number of the generator."""
        if self.generator.random() >= self.probability:
            return None
        weight = weights(logits)
        top = np.flatnonzero(weight >= np.float32(self.threshold) * weight.sum())
        if top.size < 2:
            return None
        kept = np.ones(logits.shape, np.bool_)
        kept[top] = False
        kept[top[::-1][np.argmin(logits[top[::-1]])]] = True
        return kept


def weights(logits: Logits) -> Logits:
    """The probabilities of logits [C], each divided by the largest."""
    weight: Logits = np.exp(logits - logits.max())
    return weight


def _over(temperature: Temperature | None, logits: Logits) -> Logits:
    return logits if temperature is None else temperature.over(logits)
