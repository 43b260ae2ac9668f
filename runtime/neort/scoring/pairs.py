"""A context and its continuation as token ids, as lm-eval has them: encoded together, then cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Ids
from ..errors import PromptError
from ..tokenizer import Tokenizer
from ..wording import shortened

__all__ = ["Pair", "encode_pair"]


@dataclass(frozen=True, eq=False)
class Pair:
    """Token ids of a context, at least one, and of its continuation, at least one; int64 [C] and [n]."""

    context: Ids
    continuation: Ids

    @property
    def read(self) -> Ids:
        """What the model reads: all but the last token, int64 [C + n - 1]."""
        return np.concatenate([self.context, self.continuation[:-1]])

    def fitted(self, positions: int, *, truncate: bool) -> Pair:
        """The pair, or where ``truncate`` the last of it, that a model with so many positions can read.

        Raises PromptError where it is too long, or the continuation alone is.
        """
        excess = len(self.context) + len(self.continuation) - 1 - positions
        if excess <= 0:
            return self
        if truncate and excess < len(self.context):
            return Pair(self.context[excess:], self.continuation)
        remedy = "shorten the text, or take its perplexity, which goes by windows"
        if excess < len(self.context):
            remedy = 'shorten the context, or set overflow to "truncate_left"'
        raise PromptError(
            f"the context of {len(self.context)} tokens and the text of {len(self.continuation)} need "
            f"{positions + excess} positions; the model has {positions}: {remedy}"
        )


def encode_pair(tokenizer: Tokenizer, context: str, text: str, prefix: int) -> Pair:
    """Encode a context and the text after it together, and cut them where the context alone would end.

    White space at the context's end belongs to the text. An empty context is the token ``prefix``, which is taken from
    the text where that begins with it.

    Raises PromptError where no token is left for the text.
    """
    stripped = context.rstrip()
    if context and not stripped:  # lm-eval would have no context at all
        stripped, text = "", context + text
    else:
        text = context[len(stripped) :] + text
    ids = _encode(tokenizer, stripped + text)
    if stripped:
        before = _encode(tokenizer, stripped)
        pair = Pair(before, ids[len(before) :])
    elif len(ids) and ids[0] == prefix:
        pair = Pair(ids[:1], ids[1:])
    else:
        pair = Pair(np.array([prefix], np.int64), ids)
    if not len(pair.continuation):
        raise PromptError(
            f"the text {shortened(text)} has no token of its own to score after its context; give a longer text, or "
            "begin it at a word's start"
        )
    return pair


def _encode(tokenizer: Tokenizer, text: str) -> Ids:
    return np.array(tokenizer.encode(text, add_special_tokens=False), np.int64)
