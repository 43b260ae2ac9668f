"""What options may stand together: a configuration whose options contradict each other is refused when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..wording import shortened
from .constraints import CONSTRAINTS
from .options import Option

if TYPE_CHECKING:
    from .config import GenerationConfig

__all__ = ["BEAMS", "as_tuple", "check_combinations"]

BEAMS = ("length_penalty", "early_stopping")  # the options that mean nothing without beams


def check_combinations(
    config: GenerationConfig, defaults: Mapping[str, object], sampling: Mapping[str, Option]
) -> None:
    """Raise ConfigError where options contradict each other, or one has no effect.

    ``defaults`` are those of all options, ``sampling`` are the options that only sampling heeds.
    """
    _check_forced(config)
    _check_lengths(config)
    _check_beams(config, defaults)
    _check_grammars(config)
    if not config.do_sample:
        _check_greedy(config, sampling)


def as_tuple(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    """One id, several or none as a tuple."""
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)


def _check_forced(config: GenerationConfig) -> None:
    """Refuse, as transformers does, to force a token that is ruled out, which would leave none."""
    suppressed = set(config.suppress_tokens or ())
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        forced = as_tuple(getattr(config, name))
        if forced and suppressed.issuperset(forced):
            raise ConfigError(
                f"{name}={shortened(getattr(config, name))} is in suppress_tokens as well, which leaves no token to "
                "choose: leave one of them out."
            )


def _check_lengths(config: GenerationConfig) -> None:
    most = config.max_new_tokens if config.max_length is None else config.max_length
    if config.min_new_tokens is not None and config.min_new_tokens > most:
        name = "max_new_tokens" if config.max_length is None else "max_length"
        raise ConfigError(
            f"min_new_tokens={shortened(config.min_new_tokens)} exceeds {name}={shortened(most)}: lower the first or "
            "raise the second."
        )


def _check_beams(config: GenerationConfig, defaults: Mapping[str, object]) -> None:
    if config.num_beams == 1:
        for name in BEAMS:
            if getattr(config, name) != defaults[name]:
                raise ConfigError(
                    f"{name}={shortened(getattr(config, name))} has no effect with num_beams=1: "
                    f"set num_beams to search with beams, or leave {name} out."
                )
        return
    if config.num_return_sequences > config.num_beams:
        raise ConfigError(
            f"num_return_sequences={shortened(config.num_return_sequences)} exceeds "
            f"num_beams={shortened(config.num_beams)}, which finds so many sequences: lower the first or raise the "
            "second."
        )
    if config.guides:
        raise ConfigError(
            f"guidance_scale={shortened(config.guidance_scale)} and num_beams={shortened(config.num_beams)} do not go "
            "together: leave one of them out."
        )


def _check_grammars(config: GenerationConfig) -> None:
    given = [name for name in CONSTRAINTS if getattr(config, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are given, and a text follows one grammar: leave one.")


def _check_greedy(config: GenerationConfig, sampling: Mapping[str, Option]) -> None:
    for name, facts in sampling.items():
        value = getattr(config, name)
        if value not in facts.neutral:
            raise ConfigError(
                f"{name}={shortened(value)} has no effect with do_sample=False: "
                f"set do_sample=True to sample, or leave {name} out."
            )
    if config.num_return_sequences > 1 and config.num_beams == 1:
        raise ConfigError(
            f"num_return_sequences={shortened(config.num_return_sequences)} needs do_sample=True, since greedy "
            "decoding gives the same text each time: set do_sample=True, or ask for 1 sequence."
        )
