"""What scoring returns: plain numbers, and what follows from them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["NORMALIZATIONS", "Choice", "Normalization", "Perplexity", "Score"]

Normalization = Literal["characters", "bytes", "tokens"]
NORMALIZATIONS: tuple[Normalization, ...] = ("characters", "bytes", "tokens")


@dataclass(frozen=True)
class Score:
    """How probable a text is after its context.

    Attributes:
        token_ids: the text's tokens.
        logprobs: the natural logarithm of each one's probability, after the context and the tokens before it.
        is_greedy: whether each is the most probable one, so that greedy decoding of the context gives the text.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    is_greedy: bool

    @property
    def log_likelihood(self) -> float:
        """The natural logarithm of the whole text's probability: the sum of ``logprobs``."""
        return math.fsum(self.logprobs)


@dataclass(frozen=True)
class Choice:
    """Which of several options a model takes.

    Attributes:
        index: the place of the one with the largest of ``values``; the first of equal ones.
        values: of each option the log-likelihood, divided by its length where that was asked for.
        scores: of each option the Score after the context.
    """

    index: int
    values: tuple[float, ...]
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Perplexity:
    """How well a model foretells documents, by lm-eval's definitions.

    ``float()`` of it is the perplexity per token.

    Attributes:
        log_likelihood: the sum of the natural logarithms of all tokens' probabilities, each token counted once.
        tokens: how many there are.
        words: pieces between white space, ``re.split(r"\\s+", document)``: an empty one at either end counts.
        bytes: length of the documents in UTF-8.
    """

    log_likelihood: float
    tokens: int
    words: int
    bytes: int

    @classmethod
    def of(cls, document: str, logprobs: Iterable[float]) -> Perplexity:
        """That of one document whose tokens have ``logprobs``."""
        values = list(logprobs)
        size = len(document.encode("utf-8", "surrogatepass"))
        return cls(math.fsum(values), len(values), len(re.split(r"\s+", document)), size)

    @classmethod
    def total(cls, parts: Iterable[Perplexity]) -> Perplexity:
        """That of all documents together."""
        each = list(parts)
        log_likelihood = math.fsum(part.log_likelihood for part in each)
        counts = ([getattr(part, name) for part in each] for name in ("tokens", "words", "bytes"))
        return cls(log_likelihood, *map(sum, counts))

    @property
    def token(self) -> float:
        """exp(-log_likelihood / tokens); models with another tokenizer cannot be compared by it."""
        return self._per(self.tokens)

    @property
    def word(self) -> float:
        """exp(-log_likelihood / words), lm-eval's word_perplexity."""
        return self._per(self.words)

    @property
    def byte(self) -> float:
        """exp(-log_likelihood / bytes), lm-eval's byte_perplexity."""
        return self._per(self.bytes)

    @property
    def bits_per_byte(self) -> float:
        """-log_likelihood / (bytes * ln 2), lm-eval's bits_per_byte."""
        return -self.log_likelihood / (self.bytes * math.log(2)) if self.bytes else math.nan

    def __float__(self) -> float:
        return self.token

    def _per(self, count: int) -> float:
        try:
            return math.exp(-self.log_likelihood / count) if count else math.nan
        except OverflowError:
            return math.inf
