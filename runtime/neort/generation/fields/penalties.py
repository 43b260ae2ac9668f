"""Options against repetition, and against length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from ..kinds import StartAndFactor
from ..options import Integer, Real, Strings, option

__all__ = ["PenaltyArguments", "PenaltyOptions"]

LEAVE_OFF = "use None or 0 to leave it off"


@dataclass(frozen=True, kw_only=True)
class PenaltyOptions:
    """What is held against a token, or for it, because of the text so far."""

    no_repeat_ngram_size: int | None = option(
        None, Integer(0, LEAVE_OFF), "no sequence of so many tokens comes up twice, the prompt's included; 0 is off"
    )
    presence_penalty: float | None = option(
        None, Real(-2.0, 2.0, LEAVE_OFF), "subtracted from the logits of tokens in the new text; -2 to 2"
    )
    frequency_penalty: float | None = option(
        None, Real(-2.0, 2.0, LEAVE_OFF), "the same for each time that a token is in the new text; -2 to 2"
    )
    dry_multiplier: float | None = option(
        None, Real(0.0, 1e6, LEAVE_OFF), "strength of the penalty on continuing a repetition (DRY); 0 is off"
    )
    dry_base: float = option(
        1.75,
        Real(1.0, 1e6, "use a base from which powers grow"),
        "factor by which DRY's penalty grows with each token of the repetition",
        required=True,
    )
    dry_allowed_length: int = option(
        2,
        Integer(1, "allow repetitions of at least one token"),
        "longest repetition that DRY does not penalize more than by dry_multiplier",
        required=True,
    )
    dry_penalty_last_n: int = option(
        -1,
        Integer(-1, "use -1 for the whole text"),
        "how many tokens DRY looks back; -1 is all, 0 is off",
        required=True,
    )
    dry_sequence_breakers: str | Sequence[str] = option(
        ("\n", ":", '"', "*"),
        Strings("which is in every text"),
        "text at which repetitions end for DRY; may be several",
        flag_help="; escape sequences as for --stop",
        required=True,
    )
    exponential_decay_length_penalty: Sequence[float] | None = option(
        None,
        StartAndFactor(),
        "makes end-of-text tokens more probable: after how many new tokens, and by which factor with each further one",
    )


class PenaltyArguments(TypedDict, total=False):
    """The types of `PenaltyOptions`."""

    no_repeat_ngram_size: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    dry_multiplier: float | None
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: str | Sequence[str]
    exponential_decay_length_penalty: Sequence[float] | None
