"""The probability of each token of a sequence given those before it, with the most probable alternatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Doubles, Ids
from ..generation import log_softmax
from ..model import Model
from ..tokenizer import Tokenizer

__all__ = ["Alternative", "ExplainedToken", "explain", "perplexity"]

ROWS = 32  # of logits that become probabilities at a time, as float64


@dataclass(frozen=True)
class Alternative:
    """A token that could have come, and how probable it was."""

    token_id: int
    text: str
    probability: float


@dataclass(frozen=True)
class ExplainedToken:
    """A token in its place; bytes in ``text`` that are a part of a character are written as \\xe9.

    ``probability``, ``rank`` (1 is the most probable token) and ``surprisal`` in bits are None for the first token,
    which nothing comes before. ``alternatives`` are the most probable tokens, itself among them if it is.
    """

    token_id: int
    text: str
    generated: bool
    probability: float | None = None
    rank: int | None = None
    surprisal: float | None = None
    alternatives: tuple[Alternative, ...] = ()


def explain(model: Model, token_ids: Sequence[int] | Ids, *, top: int = 5, prompt_tokens: int) -> list[ExplainedToken]:
    """Explain a sequence, of which the first ``prompt_tokens`` are given and the rest is generated.

    The probabilities are the model's own, before any option of generation. Raises what `Model.logits` does.
    """
    ids = np.asarray(token_ids, np.int64)
    logits = model.logits(ids)
    explained = [_token(model.tokenizer, int(ids[0]), prompt_tokens == 0)]
    for start in range(0, len(ids) - 1, ROWS):
        rows = log_softmax(logits[start : min(start + ROWS, len(ids) - 1)])
        for place, row in enumerate(rows, start + 1):
            explained.append(_explained(model.tokenizer, int(ids[place]), place >= prompt_tokens, row, top))
    return explained


def _explained(
    tokenizer: Tokenizer, token_id: int, generated: bool, log_probabilities: Doubles, top: int
) -> ExplainedToken:
    own = log_probabilities[token_id]
    top = min(top, len(log_probabilities))
    best = np.argpartition(-log_probabilities, top - 1)[:top]
    best = best[np.argsort(-log_probabilities[best], kind="stable")]
    return _token(
        tokenizer,
        token_id,
        generated,
        probability=float(np.exp(own)),
        rank=int((log_probabilities > own).sum()) + 1,
        surprisal=float(-own / math.log(2)) + 0.0,
        alternatives=tuple(
            Alternative(int(each), tokenizer.shown(int(each)), float(np.exp(log_probabilities[each]))) for each in best
        ),
    )


def _token(tokenizer: Tokenizer, token_id: int, generated: bool, **figures: object) -> ExplainedToken:
    return ExplainedToken(token_id, tokenizer.shown(token_id), generated, **figures)  # type: ignore[arg-type]


def perplexity(tokens: Sequence[ExplainedToken]) -> float | None:
    """Two to the mean surprisal of the tokens that have one; None where none has."""
    bits = [token.surprisal for token in tokens if token.surprisal is not None]
    if not bits:
        return None
    mean = sum(bits) / len(bits)
    return float(2.0**mean) if mean < 1000 else math.inf
