"""Options of sampling beyond temperature, top_k and top_p: which tokens are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

from ..options import Real, option

__all__ = ["FilterArguments", "FilterOptions"]


def _filter(least: float, most: float, help: str, *, off: tuple[float, ...] = ()) -> Any:
    """An option of sampling that None, or one of the values ``off``, leaves off."""
    values = ", ".join(["None", *(f"{value:g}" for value in off)])
    kind = Real(least, most, f"use {values.replace(', ', ' or ')} to leave it off")
    return option(None, kind, help, neutral=(None, *off))


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """What narrows the choice when sampling."""

    top_n_sigma: float | None = _filter(
        0.0, 1e6, "sample among the tokens within so many standard deviations of the largest logit", off=(0.0,)
    )
    top_h: float | None = _filter(
        1e-6, 1.0, "sample among the most probable tokens that hold this share of the entropy of the best 100"
    )
    min_p: float | None = _filter(
        0.0, 1.0, "sample among the tokens at least this many times as probable as the best one", off=(0.0,)
    )
    typical_p: float | None = _filter(
        1e-6,
        1.0,
        "sample among the tokens closest to the expected information whose probabilities reach this",
        off=(1.0,),
    )
    epsilon_cutoff: float | None = _filter(
        0.0, 1.0 - 1e-6, "sample among the tokens of at least this probability", off=(0.0,)
    )
    eta_cutoff: float | None = _filter(
        0.0, 1.0 - 1e-6, "the same with a lower limit where the next token is uncertain", off=(0.0,)
    )
    xtc_probability: float | None = _filter(
        0.0, 1.0, "how often the most probable tokens are excluded, but for the last of them (XTC)", off=(0.0,)
    )
    xtc_threshold: float = option(
        0.1,
        Real(0.0, 1.0, "use xtc_probability=None to leave XTC off"),
        "probability from which on XTC excludes tokens; beyond 0.5 it excludes none",
        required=True,
        neutral=(0.1,),
    )


class FilterArguments(TypedDict, total=False):
    """The types of `FilterOptions`."""

    top_n_sigma: float | None
    top_h: float | None
    min_p: float | None
    typical_p: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    xtc_probability: float | None
    xtc_threshold: float
