"""Options of the search for a text, and of what is told about its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from ..options import BooleanOr, Integer, Real, option

__all__ = ["MOST_SEQUENCES", "EarlyStopping", "SearchArguments", "SearchOptions"]

EarlyStopping = bool | Literal["never"]

MOST_LOGPROBS = 20  # as OpenAI and vLLM have it
MOST_SEQUENCES = 4096  # in one step: each takes a row of every product, and a slot of the cache


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How a text is searched for, and how probable its tokens are."""

    num_beams: int = option(
        1,
        Integer(1, "use 1 to search without beams", MOST_SEQUENCES),
        "sequences that are searched together for the most probable one; 1 is off",
        required=True,
    )
    length_penalty: float = option(
        1.0,
        Real(-10.0, 10.0, "use 1 for scores per token"),
        "power of its length by which a beam's score is divided: above 0 favours long texts, below 0 short ones; "
        "-10 to 10",
        required=True,
    )
    early_stopping: EarlyStopping = option(
        False,
        BooleanOr("never"),
        "when beams end: true, once num_beams texts are finished; false, once better ones are unlikely; never, once "
        "there can be none",
        required=True,
    )
    guidance_scale: float | None = option(
        None,
        Real(0.0, 1e3, "use None to leave it off"),
        "how far from what the model says after negative_prompt (else after the prompt's last token alone); 1 changes "
        "nothing",
    )
    logprobs: int | None = option(
        None,
        Integer(0, "use 0 for the chosen token's alone, or None for none", MOST_LOGPROBS),
        "log-probabilities of each new token and of the n most probable ones in its place, before all other options; "
        "0 to 20",
    )
    prompt_logprobs: int | None = option(
        None,
        Integer(0, "use 0 for the prompt's tokens alone, or None for none", MOST_LOGPROBS),
        "the same for the prompt's tokens",
    )


class SearchArguments(TypedDict, total=False):
    """The types of `SearchOptions`."""

    num_beams: int
    length_penalty: float
    early_stopping: EarlyStopping
    guidance_scale: float | None
    logprobs: int | None
    prompt_logprobs: int | None
