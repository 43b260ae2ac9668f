"""Beam search: which sequences go on, which are kept as finished, and when the search is over.

Follows transformers' `_beam_search` for one prompt, in float32 as it does. Where processors leave fewer continuations
than there are beams, the search goes on with those: none that is ruled out is ever taken.

Knows scores and token ids; knows nothing about the model, text, or what a sequence is made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ..arrays import Logits
from .config import GenerationConfig
from .largest import largest

__all__ = ["BeamSearch", "Candidate", "Hypothesis"]

_Item = TypeVar("_Item")

SMALLEST = np.finfo(np.float32).tiny  # what a score is divided by at least


@dataclass(frozen=True)
class Candidate:
    """A beam, by its index, with one more token; ``score`` is the sum of their log-probabilities."""

    beam: int
    token_id: int
    score: np.float32


@dataclass(frozen=True)
class Hypothesis(Generic[_Item]):
    """A finished sequence; ``score`` is its sum of log-probabilities over its length to the power length_penalty."""

    item: _Item
    score: np.float32


class BeamSearch(Generic[_Item]):
    """The state of one search, but for the sequences themselves, which are items of the caller's.

    Attributes:
        scores: of the beams that go on, float32 [n], best first; there is one at first.
        finished: the best hypotheses so far, at most num_beams, best first.
        length: tokens in each beam.
    """

    def __init__(self, config: GenerationConfig, generator: np.random.Generator | None) -> None:
        """``generator`` draws the continuations; None takes the best (``do_sample=False``)."""
        self.scores = np.zeros(1, np.float32)
        self.finished: list[Hypothesis[_Item]] = []
        self.length = 0
        self._config = config
        self._generator = generator
        self._considered = max(2, 1 + len(config.eos_token_ids)) * config.num_beams

    def candidates(self, log_probs: Logits) -> list[Candidate]:
        """Return the continuations to consider, best first, from processed log-probabilities, float32 [n, V].

        So many that num_beams of them go on whichever end-of-text tokens are among them. Those with a score of -inf
        are ruled out; there may be none left.
        """
        with np.errstate(over="ignore"):  # below the smallest number is ruled out
            scores = (self.scores[:, None] + log_probs).ravel()
        if self._generator is None:
            chosen = largest(scores, self._considered).tolist()
        else:
            chosen = _drawn(scores, self._considered, self._generator)
        size = log_probs.shape[1]
        return [Candidate(i // size, i % size, scores[i]) for i in chosen if scores[i] > -np.inf]

    def advance(self, going_on: list[Candidate]) -> None:
        """Let these be the beams, at most num_beams of the candidates, best first; each is one token longer now."""
        self.scores = np.array([candidate.score for candidate in going_on], np.float32)
        self.length += 1

    def finish(self, item: _Item, score: np.float32, length: int) -> None:
        """Note a finished sequence of ``length`` tokens; it is kept if it is among the best num_beams."""
        penalized = _penalized(score, max(length, 1), self._config.length_penalty)
        kept = [*self.finished, Hypothesis(item, penalized)]
        kept.sort(key=lambda hypothesis: -hypothesis.score)  # stable: of equal ones the earlier first
        self.finished = kept[: self._config.num_beams]

    @property
    def over(self) -> bool:
        """Whether nothing that goes on can, or may, take the place of what is finished."""
        if not len(self.scores):
            return True
        if len(self.finished) < self._config.num_beams:
            return False
        return self._config.early_stopping is True or not self._best_possible() > self.finished[-1].score

    def _best_possible(self) -> np.float32:
        """The score that the best beam may reach: transformers' estimate, which early_stopping chooses."""
        penalty = self._config.length_penalty
        grows = self._config.early_stopping == "never" and penalty > 0
        length = self._config.max_new_tokens if grows else self.length
        return _penalized(self.scores[0], length, penalty)


def _penalized(score: np.float32, length: int, penalty: float) -> np.float32:
    """The score over the length to the power ``penalty``; 0 or -inf where float32 has no number for it."""
    with np.errstate(over="ignore"):
        power = np.float32(np.float64(length) ** penalty)
        return np.float32(score / np.maximum(power, SMALLEST))


def _drawn(scores: Logits, count: int, generator: np.random.Generator) -> list[int]:
    """Draw up to ``count`` indices without replacement from the softmax of [N], and order them by their scores.

    The largest of score plus Gumbel noise are such a draw (Efraimidis and Spirakis 2006; Kool et al. 2019).
    """
    possible = np.flatnonzero(scores > -np.inf)
    keys = scores[possible] - np.log(generator.standard_exponential(len(possible)))
    drawn = possible[largest(keys, count)]
    return sorted(drawn.tolist(), key=lambda i: -scores[i])
