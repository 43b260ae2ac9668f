"""Generation options: transformers' names, checked once, immutable afterwards.

`None` means off. No sampling maths happens here: this module knows nothing about logits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args

from ..errors import ArgumentTypeError, ConfigError
from ..wording import shortened
from .combinations import BEAMS, as_tuple, check_combinations
from .constraints import CONSTRAINTS
from .fields import (
    MOST_SEQUENCES,
    BiasArguments,
    BiasOptions,
    FilterArguments,
    FilterOptions,
    GrammarArguments,
    GrammarOptions,
    LimitArguments,
    LimitOptions,
    PenaltyArguments,
    PenaltyOptions,
    SearchArguments,
    SearchOptions,
    TextArguments,
    TextOptions,
)
from .hints import for_option
from .options import Boolean, Choice, Integer, Option, Real, Strings, TokenIds, option, options

__all__ = ["OPTIONS", "GenerationConfig", "GenerationOptions", "Overflow"]

Overflow = Literal["error", "stop", "truncate_left"]

NO_MINIMUM = "use None to set no minimum"
LEAVE_OFF = "use None to leave it off"


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(
    FilterOptions, PenaltyOptions, BiasOptions, LimitOptions, SearchOptions, GrammarOptions, TextOptions
):
    """How to turn logits into text: one immutable, hashable value.

    Sequences are stored as tuples, numpy's scalars as Python's (which are what a type checker asks for). With
    `do_sample=False` an option of sampling other than neutral is refused, not ignored.

    Raises:
        ArgumentTypeError (a TypeError): a value of the wrong type, or an unknown option.
        ConfigError (a ValueError): a value out of range, or options that contradict each other.

    Options:
    """

    max_new_tokens: int = option(
        128, Integer(1, "ask for at least one token"), "most tokens to generate, at least 1", required=True
    )
    min_new_tokens: int | None = option(
        None, Integer(0, NO_MINIMUM), "no end-of-text token before this many new ones; overrides min_length"
    )
    min_length: int | None = option(
        None, Integer(0, NO_MINIMUM), "no end-of-text token before this many tokens, the prompt's included"
    )
    do_sample: bool = option(
        False, Boolean(), "draw tokens at random instead of taking the most probable one (greedy)", required=True
    )
    # The limits of temperature and penalty keep every product and quotient of float32 logits finite.
    temperature: float | None = option(
        None,
        Real(1e-6, 1e6, "use do_sample=False for greedy decoding, or None to leave it off"),
        "divides the logits; 1e-6 to 1e6",
        neutral=(None, 1.0),
    )
    top_k: int | None = option(
        50,
        Integer(0, "use None or 0 to sample from the whole vocabulary"),
        "sample among the k most probable tokens (and any tied with the last); 0 is off",
        neutral=(None, 0, 50),
    )
    top_p: float | None = option(
        None,
        Real(0.0, 1.0, LEAVE_OFF),
        "sample among the fewest tokens whose probabilities reach top_p; 0 keeps only the best one",
        neutral=(None, 1.0),
    )
    repetition_penalty: float | None = option(
        None,
        Real(1e-6, 1e6, LEAVE_OFF),
        "weakens tokens already in the prompt or the text; 1 changes nothing; 1e-6 to 1e6",
    )
    stop_strings: str | Sequence[str] = option(
        (),
        Strings(),
        "text that ends the text and is no part of it, special tokens' text included; may be several",
        flag="--stop",
        flag_help=r"; \n, \r, \t, \\ and \uXXXX stand for characters",
        required=True,
    )
    eos_token_id: int | Sequence[int] | None = option(
        None,
        TokenIds("use a token id, a sequence of them, or None where the model has no such token"),
        "id of a token that ends the text; may be several",
    )
    pad_token_id: int | None = option(
        None,
        Integer(0, "use None where the model has no padding token"),
        "kept for transformers' files only: results are never padded",
    )
    seed: int | None = option(
        None, Integer(0, "use None for fresh randomness"), "makes sampling repeatable; no effect on greedy decoding"
    )
    num_return_sequences: int = option(
        1,
        Integer(1, "ask for at least one sequence", MOST_SEQUENCES),
        "texts per prompt; several need do_sample or num_beams",
        required=True,
    )
    overflow: Overflow = option(
        "error",
        Choice(get_args(Overflow)),
        "when prompt and new tokens exceed the model's positions: error, before anything runs; stop, when the context "
        "is full; or truncate_left, which drops the oldest tokens",
        required=True,
    )

    if not TYPE_CHECKING:  # a type checker knows the fields

        def __new__(cls, **options: Any) -> GenerationConfig:
            _check_names(options)
            config = super().__new__(cls)
            object.__setattr__(config, "_given", frozenset(options))
            return config

    def __post_init__(self) -> None:
        for name, facts in OPTIONS.items():
            object.__setattr__(self, name, facts.check(name, getattr(self, name)))
        if self.max_new_tokens != _DEFAULTS["max_new_tokens"]:
            object.__setattr__(self, "max_length", None)
        check_combinations(self, _DEFAULTS, SAMPLING)

    @property
    def least_kept(self) -> int:
        """How many tokens sampling leaves at least: with beams one more than there are end-of-text tokens."""
        return 1 if self.num_beams == 1 else 1 + max(1, len(self.eos_token_ids))

    @property
    def guides(self) -> bool:
        """Whether a second prompt is run beside the first one."""
        return self.guidance_scale not in (None, 1.0)

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings of `stop_strings` as a tuple, empty where there is none."""
        return (self.stop_strings,) if isinstance(self.stop_strings, str) else tuple(self.stop_strings)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The ids of `eos_token_id` as a tuple, empty where there is none, or where they are to be ignored."""
        return () if self.ignore_eos else as_tuple(self.eos_token_id)

    @property
    def forced_eos_token_ids(self) -> tuple[int, ...]:
        """The ids of `forced_eos_token_id` as a tuple, empty where there is none."""
        return as_tuple(self.forced_eos_token_id)

    @property
    def given(self) -> frozenset[str]:
        """The options that were named when it was made, whatever their values. Equal configs may differ in it."""
        names: frozenset[str] = self.__dict__["_given"]
        return names

    @property
    def dry_breakers(self) -> tuple[str, ...]:
        """The strings of `dry_sequence_breakers` as a tuple."""
        return tuple(self.dry_sequence_breakers)

    def longest(self, prompt_length: int) -> int:
        """Return how many tokens prompt and text may have together, the prompt having ``prompt_length``."""
        return prompt_length + self.max_new_tokens if self.max_length is None else self.max_length

    def for_prompt(self, prompt_length: int) -> GenerationConfig:
        """Return these options for a prompt of ``prompt_length`` tokens: with max_new_tokens in place of max_length.

        Raises ConfigError where max_length leaves no token after the prompt.
        """
        if self.max_length is None:
            return self
        if self.max_length <= prompt_length:
            raise ConfigError(
                f"max_length={shortened(self.max_length)} counts the prompt, whose {prompt_length} tokens leave none "
                "for the text: raise it, or use max_new_tokens."
            )
        return self.replace(max_new_tokens=self.max_length - prompt_length)

    @property
    def constraint(self) -> tuple[str, str | tuple[str, ...]] | None:
        """The option that the text is constrained by, and its value; None where there is none."""
        given = ((name, getattr(self, name)) for name in CONSTRAINTS)
        return next((each for each in given if each[1] is not None), None)

    def replace(self, **overrides: Unpack[_AllOptions]) -> GenerationConfig:
        """A copy with some options changed.

        `replace(do_sample=False)` also puts the options of sampling back to their defaults unless they are given as
        well: whoever asks a sampling configuration for greedy decoding means just that. So does `replace(num_beams=1)`
        with the options of beams. A `max_new_tokens` below the present `min_new_tokens` lowers this to itself, unless
        it is given as well. Of `max_new_tokens` and `max_length` the one that is given replaces the other.

        Raises:
            ArgumentTypeError: an unknown option (the message names the closest known one), or a wrong type.
            ConfigError: as for the constructor.
        """
        changed: dict[str, Any] = dict(overrides)
        _check_names(changed)
        if not changed.get("do_sample", True):
            changed = {name: _DEFAULTS[name] for name in SAMPLING} | changed
        if changed.get("num_beams") == 1:
            changed = {name: _DEFAULTS[name] for name in BEAMS} | changed
        if "max_length" not in changed and "max_new_tokens" in changed:
            changed["max_length"] = None
        elif "max_new_tokens" not in changed and changed.get("max_length") is not None:
            changed["max_new_tokens"] = _DEFAULTS["max_new_tokens"]
        least, most = self.min_new_tokens, changed.get("max_new_tokens")
        if least is not None and isinstance(most, int) and 0 < most < least:
            changed = {"min_new_tokens": most} | changed
        replaced = dataclasses.replace(self, **changed)
        object.__setattr__(replaced, "_given", self.given | changed.keys())
        return replaced

    @classmethod
    def from_hf(cls, data: Mapping[str, object]) -> GenerationConfig:
        """The options in the contents of a Hugging Face `generation_config.json`: see `hf_config.read_hf_config`."""
        from .hf_config import read_hf_config

        return read_hf_config(data)


class GenerationOptions(
    FilterArguments,
    PenaltyArguments,
    BiasArguments,
    LimitArguments,
    SearchArguments,
    GrammarArguments,
    TextArguments,
    total=False,
):
    """The options of a sequence with GenerationConfig's own types, as a type checker knows them in ``**overrides``.

    ``num_return_sequences`` is none of them: where a call has it, `Model.generate` returns something else.
    """

    max_new_tokens: int
    min_new_tokens: int | None
    min_length: int | None
    do_sample: bool
    temperature: float | None
    top_k: int | None
    top_p: float | None
    repetition_penalty: float | None
    stop_strings: str | Sequence[str]
    eos_token_id: int | Sequence[int] | None
    pad_token_id: int | None
    seed: int | None
    overflow: Overflow


class _AllOptions(GenerationOptions, total=False):
    num_return_sequences: int


def _check_names(names: Iterable[str]) -> None:
    """Raise ArgumentTypeError for a name that is no option's; the message says what to use instead."""
    for name in names:
        if name not in OPTIONS:
            raise ArgumentTypeError(f"unknown generation option {shortened(name)}; {for_option(name, OPTIONS)}")


OPTIONS: Mapping[str, Option] = options(GenerationConfig)
SAMPLING: Mapping[str, Option] = {name: facts for name, facts in OPTIONS.items() if facts.neutral}
_DEFAULTS: dict[str, object] = {field.name: field.default for field in dataclasses.fields(GenerationConfig)}

GenerationConfig.__doc__ = f"{GenerationConfig.__doc__}" + "".join(
    f"    {name}: {facts.help}.\n    " for name, facts in OPTIONS.items()
)
