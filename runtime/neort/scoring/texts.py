"""Texts in, scores out: what `Model.score`, `Model.perplexity` and `Model.choose` do."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

from ..arrays import Ids
from ..bundle import Bundle
from ..engine import Engine
from ..errors import ArgumentTypeError, ConfigError, PromptError
from ..tokenizer import Tokenizer
from ..wording import shortened
from .pairs import Pair, encode_pair
from .prefix_token import prefix_token
from .results import NORMALIZATIONS, Choice, Normalization, Perplexity, Score
from .scorer import Scorer
from .windows import Window, rolling_windows

__all__ = ["OVERFLOWS", "Overflow", "Progress", "TextScorer"]

Overflow = Literal["error", "truncate_left"]
OVERFLOWS: tuple[Overflow, ...] = ("error", "truncate_left")
PART_TOKENS = 1 << 14  # tokens of a document that are read before progress is told

#: Is told how many tokens are scored, of how many, and their log-likelihood so far.
Progress = Callable[[int, int, float], object]


def no_progress(done: int, total: int, log_likelihood: float) -> None:
    """Tell nobody."""


class TextScorer:
    """Scores texts with a model's tokenizer, on its engine.

    Attributes:
        positions: how many tokens are read at most.
        scorer: scores what was encoded.
    """

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer, engine: Engine, positions: int | None = None) -> None:
        """``positions`` None is all that the model has."""
        self.positions = positions or bundle.spec.max_position_embeddings
        self.scorer = Scorer(engine)
        self._bundle = bundle
        self._tokenizer = tokenizer

    @functools.cached_property
    def prefix(self) -> int:
        """The token before a text without a context; raises ConfigError where there is none."""
        return prefix_token(self._bundle, self._tokenizer)

    def score(self, text: Any, context: Any, overflow: Overflow) -> Score | list[Score]:
        """See `Model.score`."""
        _check_one_of("overflow", overflow, OVERFLOWS)
        if isinstance(text, str):
            return self.scorer.score_pairs([self.pair(text, _text("context", context), overflow)])[0]
        texts = _texts("texts", text)
        contexts = [context] * len(texts) if isinstance(context, str) else _texts("contexts", context)
        if len(contexts) != len(texts):
            raise ArgumentTypeError(
                f"there are {len(contexts)} contexts for {len(texts)} texts; give one context for each text, or one "
                "str for all"
            )
        return self.scorer.score_pairs(self._pairs(zip(contexts, texts, strict=True), overflow))

    def choose(
        self, context: str, options: Sequence[str], normalize: Normalization | None, overflow: Overflow
    ) -> Choice:
        """See `Model.choose`."""
        _check_one_of("overflow", overflow, OVERFLOWS)
        if normalize is not None:
            _check_one_of("normalize", normalize, NORMALIZATIONS)
        texts, before = _texts("options", options), _text("context", context)
        pairs = self._pairs(((before, option) for option in texts), overflow)
        scores = self.scorer.score_options([pairs])
        sizes = [_size(option, score, normalize) for option, score in zip(texts, scores, strict=True)]
        values = [score.log_likelihood / size for score, size in zip(scores, sizes, strict=True)]
        return Choice(int(np.argmax(values)), tuple(values), tuple(scores))

    def perplexity(self, text: Any) -> Perplexity | list[Perplexity]:
        """See `Model.perplexity`."""
        if isinstance(text, str):
            return self.perplexities([text])[0]
        return self.perplexities(_texts("texts", text))

    def perplexities(self, documents: Sequence[str], progress: Progress = no_progress) -> list[Perplexity]:
        """The perplexity of each document. Raises PromptError for an empty one, and what `Model.score` does."""
        windows: list[Window] = []
        ends = []
        for i, document in enumerate(documents):
            windows += self.windows(document, f"text {i} of the list" if len(documents) > 1 else "the text")
            ends.append(len(windows))
        found = self._score_windows(windows, progress)
        return [
            Perplexity.of(document, itertools.chain.from_iterable(found[start:end]))
            for document, start, end in zip(documents, [0, *ends], ends, strict=False)
        ]

    def _score_windows(self, windows: Sequence[Window], progress: Progress) -> list[list[float]]:
        """The log-probabilities of each window's targets; a few windows at a time, after which progress is told."""
        total = sum(len(window.targets) for window in windows)
        found: list[list[float]] = []
        done, log_likelihood = 0, 0.0
        while len(found) < len(windows):
            stop = len(found) + max(1, PART_TOKENS // len(windows[len(found)].token_ids))
            for logprobs in self.scorer.score_windows(windows[len(found) : stop]):
                found.append(logprobs.tolist())
                done += len(logprobs)
                log_likelihood += float(logprobs.sum())
            progress(done, total, log_likelihood)
        return found

    def windows(self, document: str, name: str = "the text") -> list[Window]:
        """The windows over a document. Raises PromptError for one without tokens, which ``name`` names."""
        ids = self.encode(document)
        if not len(ids):
            raise PromptError(f"{name} is empty, and has no perplexity; leave it out")
        return list(rolling_windows(ids, self.prefix, self.positions))

    def encode(self, text: str) -> Ids:
        """A text's tokens without those that the tokenizer puts around one."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False), np.int64)

    def pair(self, text: str, context: str, overflow: Overflow) -> Pair:
        """A text after its context. Raises PromptError where the text has no token, or does not fit."""
        pair = encode_pair(self._tokenizer, context, text, self.prefix if not context.strip() else -1)
        return pair.fitted(self.positions, truncate=overflow == "truncate_left")

    def _pairs(self, pairs: Iterable[tuple[str, str]], overflow: Overflow) -> list[Pair]:
        """Those of contexts and texts; an error says which one it is about."""
        encoded = []
        for i, (context, text) in enumerate(pairs):
            try:
                encoded.append(self.pair(text, context, overflow))
            except PromptError as error:
                raise PromptError(f"text {i} of the list: {error}") from None
        return encoded


def _size(option: str, score: Score, normalize: Normalization | None) -> int:
    """What an option's log-likelihood is divided by; white space before it is not of its length."""
    match normalize:
        case "characters":
            return max(1, len(option.lstrip()))
        case "bytes":
            return max(1, len(option.lstrip().encode("utf-8", "surrogatepass")))
        case "tokens":
            return len(score.token_ids)
        case None:
            return 1


def _texts(name: str, value: Any) -> list[str]:
    """A list of one or more texts. Raises ArgumentTypeError, PromptError."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ArgumentTypeError(f"{name} are a list of str, not {type(value).__name__}")
    if not value:
        raise PromptError(f"the list of {name} is empty; give at least one")
    return [_text(f"each of the {name}", each) for each in value]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{name} is a str, not {type(value).__name__}")
    return value


def _check_one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raises ArgumentTypeError, ConfigError for anything else."""
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{name} is a str, not {type(value).__name__}")
    if value not in allowed:
        raise ConfigError(f"{name} is {shortened(value)}; it must be one of {', '.join(allowed)}")
