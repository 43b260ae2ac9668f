"""Texts in, scores out: what `Model.score`, `Model.perplexity` and `Model.choose` do."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
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
from .scorer import Progress, Scorer
from .windows import Window, rolling_windows

__all__ = ["OVERFLOWS", "Overflow", "TextScorer"]

Overflow = Literal["error", "truncate_left"]
OVERFLOWS: tuple[Overflow, ...] = ("error", "truncate_left")


class TextScorer:
    """Scores texts with a model's tokenizer, on its engine."""

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer, engine: Engine) -> None:
        self._bundle = bundle
        self._tokenizer = tokenizer
        self._scorer = Scorer(engine)

    @functools.cached_property
    def prefix(self) -> int:
        """The token before a text without a context; raises ConfigError where there is none."""
        return prefix_token(self._bundle, self._tokenizer)

    @property
    def positions(self) -> int:
        """How many tokens the model reads at most."""
        return self._bundle.spec.max_position_embeddings

    def score(self, text: Any, context: Any, overflow: Overflow) -> Score | list[Score]:
        """See `Model.score`."""
        _check_one_of("overflow", overflow, OVERFLOWS)
        if isinstance(text, str):
            return self._scorer.score_pairs([self.pair(text, _text("context", context), overflow)])[0]
        texts = _texts("texts", text)
        contexts = [context] * len(texts) if isinstance(context, str) else _texts("contexts", context)
        if len(contexts) != len(texts):
            raise ArgumentTypeError(
                f"there are {len(contexts)} contexts for {len(texts)} texts; give one context for each text, or one "
                "str for all"
            )
        return self._scorer.score_pairs(self._pairs(zip(contexts, texts, strict=True), overflow))

    def choose(
        self, context: str, options: Sequence[str], normalize: Normalization | None, overflow: Overflow
    ) -> Choice:
        """See `Model.choose`."""
        _check_one_of("overflow", overflow, OVERFLOWS)
        if normalize is not None:
            _check_one_of("normalize", normalize, NORMALIZATIONS)
        texts, before = _texts("options", options), _text("context", context)
        pairs = self._pairs(((before, option) for option in texts), overflow)
        scores = self._scorer.score_options([pairs])
        sizes = [_size(option, score, normalize) for option, score in zip(texts, scores, strict=True)]
        values = [score.log_likelihood / size for score, size in zip(scores, sizes, strict=True)]
        return Choice(int(np.argmax(values)), tuple(values), tuple(scores))

    def perplexity(self, text: Any, progress: Progress = lambda tokens: None) -> Perplexity | list[Perplexity]:
        """See `Model.perplexity`; ``progress`` is told how many tokens each batch has read."""
        if isinstance(text, str):
            return self.perplexities([text], progress)[0]
        return self.perplexities(_texts("texts", text), progress)

    def perplexities(self, documents: Sequence[str], progress: Progress = lambda tokens: None) -> list[Perplexity]:
        """The perplexity of each document. Raises PromptError for an empty one."""
        windows: list[Window] = []
        ends = []
        for i, document in enumerate(documents):
            windows += self.windows(document, f"text {i} of the list" if len(documents) > 1 else "the text")
            ends.append(len(windows))
        found = self._scorer.score_windows(windows, progress)
        starts = [0, *ends[:-1]]
        return [
            Perplexity.of(document, (value for logprobs in found[start:end] for value in logprobs.tolist()))
            for document, start, end in zip(documents, starts, ends, strict=True)
        ]

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
