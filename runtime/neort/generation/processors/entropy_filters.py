"""Filters that depend on how uncertain the next token is: its entropy, in nats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import Logits
from ..largest import kth_largest, largest
from .filters import Filter, Kept, weights

__all__ = ["EpsilonCutoff", "EtaCutoff", "TopH", "TypicalP"]

TOP_H_CANDIDATES = 100  # transformers': the entropy is that of the most probable tokens
SMALLEST_LOG = np.float32(-200.0)  # its exponential is 0 in float32, and so is the product of both


@dataclass(frozen=True)
class TopH(Filter):
    """Keeps the most probable tokens as long as they hold at most ``h`` of the entropy of the 100 most probable ones.

    Potraghloo et al. 2025, "Top-H Decoding: Adapting the Creativity and Coherence with Bounded Entropy in Text
    Generation", arXiv:2509.02510, in transformers' form. The most probable token stays in any case.
    """

    h: float

    def keep(self, logits: Logits) -> Kept | None:
        """See `Filter`."""
        top = largest(logits, TOP_H_CANDIDATES)
        weight = weights(logits[top])
        probabilities = weight[weight > 0] / weight.sum()
        terms = -probabilities * np.log(probabilities)
        cumulative = np.cumsum(terms, dtype=np.float64).astype(np.float32)
        chosen = cumulative <= terms.sum() * np.float32(self.h)
        chosen[0] = True
        kept = np.zeros(logits.shape, np.bool_)
        kept[top[: chosen.shape[0]][chosen]] = True
        return kept


@dataclass(frozen=True)
class TypicalP(Filter):
    """Keeps the tokens whose information is closest to the entropy, as many as reach probability ``p`` together.

    Meister et al. 2023, "Locally Typical Sampling", arXiv:2202.00666, in transformers' form.
    """

    p: float
    least: int = 1

    def keep(self, logits: Logits) -> Kept | None:
        """See `Filter`."""
        shifted, probabilities, total = _distribution(logits)
        information = np.float32(np.log(total)) - shifted
        distances = np.abs(information - _entropy(shifted, probabilities, total))
        # V probabilities below (1 - p) / 2V stay below 1 - p all together: without them the cut is no nearer.
        likely = probabilities > np.float32((1.0 - self.p) / (2 * logits.shape[0]))
        near = distances <= _cut(distances[likely], probabilities[likely], self.p)
        kept: Kept = distances <= _cut(distances[near], probabilities[near], self.p)
        if self.least > 1:
            kept[np.argsort(distances, kind="stable")[: self.least]] = True
        return kept


@dataclass(frozen=True)
class EpsilonCutoff(Filter):
    """Keeps the tokens whose probability is at least ``epsilon``, and the most probable one.

    Hewitt, Manning and Liang 2022, "Truncation Sampling as Language Model Desmoothing", arXiv:2210.15191.
    """

    epsilon: float
    least: int = 1

    def keep(self, logits: Logits) -> Kept | None:
        """See `Filter`."""
        weight = weights(logits)
        kept = weight / np.float32(weight.sum(dtype=np.float64)) >= np.float32(self.epsilon)
        return kept | (logits >= kth_largest(logits, min(self.least, logits.shape[0])))


@dataclass(frozen=True)
class EtaCutoff(Filter):
    """Keeps the tokens whose probability is at least ``epsilon``, or less where the entropy is high; and the best one.

    The limit is the smaller of epsilon and sqrt(epsilon) * exp(-entropy); Hewitt, Manning and Liang 2022, see
    `EpsilonCutoff`.
    """

    epsilon: float
    least: int = 1

    def keep(self, logits: Logits) -> Kept | None:
        """See `Filter`."""
        shifted, probabilities, total = _distribution(logits)
        epsilon = np.float32(self.epsilon)
        eta = min(epsilon, np.sqrt(epsilon) * np.exp(-_entropy(shifted, probabilities, total)))
        kept: Kept = (probabilities >= eta) | (logits >= kth_largest(logits, min(self.least, logits.shape[0])))
        return kept


def _distribution(logits: Logits) -> tuple[Logits, Logits, np.float64]:
    """The logits less the largest, their probabilities, and the sum of exponentials that these were divided by."""
    shifted = logits - logits.max()
    probabilities = np.exp(shifted)
    total = probabilities.sum(dtype=np.float64)
    probabilities /= np.float32(total)
    return shifted, probabilities, total


def _entropy(shifted: Logits, probabilities: Logits, total: np.float64) -> np.float32:
    """The entropy of ``probabilities``, exp(shifted) / total."""
    return np.float32(np.log(total) - np.dot(probabilities, np.maximum(shifted, SMALLEST_LOG)))


def _cut(distances: Logits, probabilities: Logits, mass: float) -> np.float32:
    """The least distance within which the probabilities reach ``mass``, or the largest where none does."""
    order = np.argsort(distances)
    cumulative = np.cumsum(probabilities[order], dtype=np.float64).astype(np.float32)
    at = int(np.searchsorted(cumulative, np.float32(mass), side="left"))
    cut: np.float32 = distances[order[min(at, order.shape[0] - 1)]]
    return cut
