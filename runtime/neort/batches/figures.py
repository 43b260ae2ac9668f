"""What there is to know of a completion besides its text, where it was asked for, in JSON's own types."""

from __future__ import annotations

import math
from typing import Any

from ..engine import Completion
from ..generation import TokenLogprob
from ..tokenizer import Tokenizer

__all__ = ["FIGURES", "figures_of"]

FIGURES = ("score", "logprobs", "prompt_logprobs")


def figures_of(completion: Completion, tokenizer: Tokenizer) -> dict[str, Any]:
    """Those of `FIGURES` that the completion has; without beams and log-probabilities none.

    A token is its id, its text, bytes that are a part of a character written as \\xe9, and its log-probability; None
    stands for a number that is not finite, and for a token of the prompt that has no log-probability.
    """
    figures: dict[str, Any] = {}
    if completion.score is not None:
        figures["score"] = _finite(completion.score)
    if completion.logprobs is not None:
        figures["logprobs"] = [_entry(tokenizer, each) for each in completion.logprobs]
    if completion.prompt_logprobs is not None:
        figures["prompt_logprobs"] = [
            None if each is None else _entry(tokenizer, each) for each in completion.prompt_logprobs
        ]
    return figures


def _entry(tokenizer: Tokenizer, known: TokenLogprob) -> dict[str, Any]:
    top = [_token(tokenizer, token_id, logprob) for token_id, logprob in known.top]
    return {**_token(tokenizer, known.token_id, known.logprob), "top": top}


def _token(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    return {"token_id": token_id, "token": tokenizer.shown(token_id), "logprob": _finite(logprob)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
