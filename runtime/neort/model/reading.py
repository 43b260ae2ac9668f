"""Texts that a model reads: logits, scores, and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from ..arrays import Floats, Ids, Logits
from ..prompts import Prompt, Prompts, as_ids, is_one_prompt
from .parts import ModelParts

if TYPE_CHECKING:
    from ..features import Pooling, Truncation
    from ..scoring import Choice, Normalization, Overflow, Perplexity, Score, TextScorer

__all__ = ["ReadingModel"]


class ReadingModel(ModelParts):
    """A model that says how probable texts are, and what it makes of them."""

    def logits(self, token_ids: Sequence[int] | Ids) -> Logits:
        """Next-token logits at every position of a sequence, float32 [T, V].

        Raises PromptError for ids outside the vocabulary or more tokens than positions, ArgumentTypeError for other
        types, BusyError when running sequences take all slots or the cache.
        """
        return self._engine.logits(as_ids(token_ids))

    @overload
    def score(self, text: str, context: str = ..., *, overflow: Overflow = ...) -> Score: ...
    @overload
    def score(self, text: list[str], context: str | list[str] = ..., *, overflow: Overflow = ...) -> list[Score]: ...
    def score(self, text: Any, context: Any = "", *, overflow: Overflow = "error") -> Score | list[Score]:
        """How probable a text is after a context: its log-likelihood, token by token.

        A list of texts gives a list, with one context for all or a list of contexts; texts are read together, longest
        first, and each gets the same bits alone. Context and text are encoded together, as lm-eval does it: white space
        at the context's end belongs to the text. Without a context the text follows the token that begins texts.

        ``overflow`` "truncate_left" drops the oldest tokens of a context that is too long, where "error" raises. While
        other sequences take all slots, scoring waits.

        Raises PromptError for a text without tokens, or one that does not fit; ArgumentTypeError for anything but str;
        ConfigError where there is no context, and no token that begins texts; LogitsError when the model yields NaN.
        """
        return self.scorer().score(text, context, overflow)

    def choose(
        self,
        context: str,
        options: Sequence[str],
        *,
        normalize: Normalization | None = None,
        overflow: Overflow = "error",
    ) -> Choice:
        """Which of several texts is the most probable one after a context, which is read once for all.

        ``normalize`` divides each log-likelihood by the option's length in "characters" (lm-eval's acc_norm), "bytes"
        or "tokens"; white space before the option does not count. Where options follow a space, each begins with it.

        Raises what `score` does.
        """
        return self.scorer().choose(context, options, normalize, overflow)

    @overload
    def perplexity(self, text: str) -> Perplexity: ...
    @overload
    def perplexity(self, text: list[str]) -> list[Perplexity]: ...
    def perplexity(self, text: Any) -> Perplexity | list[Perplexity]:
        """How well the model foretells a document of any length, or each of a list; see `neort.scoring.Perplexity`.

        By lm-eval's rolling windows: each token is foretold once, after the token that begins texts and what fits of
        the document before it; the last window is full. Raises PromptError for an empty text, and what `score` does.
        """
        return self.scorer().perplexity(text)

    def scorer(self, positions: int | None = None) -> TextScorer:
        """What `score`, `choose` and `perplexity` work with, for programs that prepare or batch their own texts.

        ``positions`` lowers how many tokens are read at once; None is all that the model has.
        """
        from ..scoring import TextScorer

        return TextScorer(self.bundle, self.tokenizer, self._engine, positions)

    @overload
    def embed(
        self,
        texts: Prompt,
        layer: int = -1,
        pooling: Pooling = "mean",
        normalize: bool = False,
        *,
        truncation: Truncation | None = None,
    ) -> Floats: ...
    @overload
    def embed(
        self,
        texts: Prompts,
        layer: int = -1,
        pooling: Literal["mean", "last"] = "mean",
        normalize: bool = False,
        *,
        truncation: Truncation | None = None,
    ) -> Floats: ...
    @overload
    def embed(
        self,
        texts: Prompts,
        layer: int = -1,
        *,
        pooling: Literal["none"],
        normalize: bool = False,
        truncation: Truncation | None = None,
    ) -> list[Floats]: ...
    def embed(
        self,
        texts: Any,
        layer: int = -1,
        pooling: Pooling = "mean",
        normalize: bool = False,
        *,
        truncation: Truncation | None = None,
    ) -> Floats | list[Floats]:
        """Vectors for texts, from the hidden states of their tokens.

        Texts are read together, longest first, and each gets the same bits alone. While other sequences take all slots,
        embedding waits.

        A text is a str or token ids. ``layer`` counts as transformers' ``hidden_states``: 0 are the embeddings, i what
        layer i gives, and the last one (-1) is taken after the last normalization. ``pooling`` makes one vector of
        those of a text's tokens: their "mean", the "last", or "none" for all. ``normalize`` makes vectors one long.
        ``truncation`` cuts texts beyond the model's positions, at the "right" or the "left"; None refuses them.

        Returns float32 [K] for one text and [N, K] for a list of them; with "none" [T, K] or a list of such arrays.

        No logits are computed. The first call opens the graph once more, in the place of the one in memory, which takes
        as long as loading; sequences that run meanwhile wait for it and keep their bits.

        Raises PromptError for a text that is empty, too long or holds unknown ids; ConfigError and ArgumentTypeError
        for other arguments; UnsupportedError for the last layer of a quantized bundle whose
        lm_head is not tied to its embedding.
        """
        from ..features import Embedder

        options: dict[str, Any] = {"pooling": pooling, "normalize": normalize, "truncation": truncation}
        embedder = Embedder(self._session, self._engine, layer=layer, **options)
        if is_one_prompt(texts):
            return embedder.embed([self._encode(texts)], ["the text"])[0]
        ids = self._encode_all(texts)
        vectors = embedder.embed(ids, [f"text {i} of the list" for i in range(len(ids))])
        return vectors if pooling == "none" else np.stack(vectors)
