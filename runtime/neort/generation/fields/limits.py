"""Options that say when a text begins and ends, and what becomes of logits that are no numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from ..options import Boolean, Integer, Real, option

__all__ = ["LimitArguments", "LimitOptions"]


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """When a text begins, and when it ends."""

    max_length: int | None = option(
        None,
        Integer(1, "use max_new_tokens, which does not count the prompt's tokens"),
        "most tokens of prompt and text together; a max_new_tokens given beside it holds instead",
    )
    max_time: float | None = option(
        None,
        Real(0.0, 1e9, "use None to set no limit of time"),
        "seconds after which no further token is generated, counted from the call: waiting for a slot and the prompt's "
        "prefill included",
    )
    priority: int = option(
        0,
        Integer(-(1 << 31), "use a number that is not so low", (1 << 31) - 1),
        "among requests that wait for a slot the lowest number comes first, and of equal ones the oldest",
        required=True,
    )
    ignore_eos: bool = option(
        False, Boolean(), "go on after end-of-text tokens, as if the model had none", required=True
    )
    remove_invalid_values: bool = option(
        False, Boolean(), "take logits that are NaN as 0 and infinite ones as the largest numbers", required=True
    )
    renormalize_logits: bool = option(
        False, Boolean(), "make the processed logits logarithms of probabilities again", required=True
    )


class LimitArguments(TypedDict, total=False):
    """The types of `LimitOptions`."""

    max_length: int | None
    max_time: float | None
    priority: int
    ignore_eos: bool
    remove_invalid_values: bool
    renormalize_logits: bool
