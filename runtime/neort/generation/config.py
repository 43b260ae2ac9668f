"""Generation options: transformers' names, checked once, immutable afterwards.

`None` means off. No sampling maths happens here: this module knows nothing about logits.
"""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from ..errors import ConfigError

__all__ = ["GenerationConfig", "Overflow"]

Overflow = Literal["error", "stop", "truncate_left"]

_INTEGERS: dict[str, tuple[int, str]] = {  # field: (smallest value, remedy)
    "max_new_tokens": (1, "ask for at least one token"),
    "min_new_tokens": (0, "use None to set no minimum"),
    "min_length": (0, "use None to set no minimum"),
    "top_k": (0, "use None or 0 to sample from the whole vocabulary"),
    "pad_token_id": (0, "use None where the model has no padding token"),
    "seed": (0, "use None for fresh randomness"),
    "num_return_sequences": (1, "ask for at least one sequence"),
}
_REQUIRED = ("max_new_tokens", "num_return_sequences")

# Temperature and penalty scale float32 logits: the limits keep every product and quotient finite.
_FLOATS: dict[str, tuple[float, float, str]] = {  # field: (smallest value, largest value, remedy)
    "temperature": (1e-6, 1e6, "use do_sample=False for greedy decoding, or None to leave it off"),
    "top_p": (0.0, 1.0, "use None to leave it off"),
    "repetition_penalty": (1e-6, 1e6, "use None to leave it off"),
}

# Values at which a sampling option changes nothing, so that greedy decoding may carry them.
_NO_EFFECT: dict[str, tuple[object, ...]] = {
    "temperature": (None, 1.0),
    "top_k": (None, 0, 50),
    "top_p": (None, 1.0),
}

# Keys of transformers' files that never change which tokens come out of a single, unbeamed sequence.
_BOOKKEEPING = {
    "bos_token_id", "compile_config", "continuous_batching_config", "decoder_start_token_id",
    "disable_compile", "early_stopping", "is_assistant", "length_penalty", "low_memory", "max_cache_len",
    "max_matching_ngram_size", "num_assistant_tokens", "num_assistant_tokens_schedule", "num_beam_groups",
    "prefill_chunk_size", "prompt_lookup_num_tokens", "renormalize_logits", "speculation_type",
    "target_lookbehind", "transformers_version", "use_cache", "use_mtp",
}  # fmt: skip
_BOOKKEEPING_PREFIXES = ("_", "assistant_", "cache_", "output_", "return_")

# Options that neort lacks, with the value at which transformers does nothing; for any other key that is null.
_NEUTRAL: dict[str, object] = {
    "diversity_penalty": 0.0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "guidance_scale": 1.0,
    "max_length": 20,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "penalty_alpha": 0.0,
    "remove_invalid_values": False,
    "token_healing": False,
    "typical_p": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How to turn logits into text: one immutable, hashable value.

    Integers, floats and booleans may be Python's or numpy's scalars; they are stored as Python's.

    Attributes:
        max_new_tokens: most tokens to generate, at least 1.
        min_new_tokens: no end-of-text token before this many new ones; overrides `min_length`.
        min_length: the same, counted with the prompt.
        do_sample: draw tokens at random; otherwise take the most probable one (greedy).
        temperature: divides the logits; 1e-6 to 1e6.
        top_k: sample among the k most probable tokens (and any tied with the last); None or 0 is off.
        top_p: sample among the fewest tokens whose probabilities reach top_p; 0 keeps only the best one.
        repetition_penalty: weakens tokens already in the prompt or the text; 1 changes nothing; 1e-6 to 1e6.
        stop_strings: a string or a sequence of strings that end the text; stored as a tuple.
        eos_token_id: one id or several that end the text; see `eos_token_ids`.
        pad_token_id: kept for compatibility with transformers' files only: results are never padded.
        seed: makes sampling repeatable; None draws fresh entropy. Has no effect on greedy decoding.
        num_return_sequences: texts per prompt; more than one needs `do_sample`.
        overflow: what to do when prompt plus new tokens exceed the model's positions. "error" raises before
            anything runs; "stop" ends with finish_reason "length" when the context is full; "truncate_left"
            drops the oldest tokens and prefills again.

    With `do_sample=False` a temperature, top_k or top_p other than neutral is refused, not ignored.

    Raises:
        TypeError: a value of the wrong type, or an unknown option.
        ConfigError: a value out of range, or options that contradict each other.
    """

    max_new_tokens: int = 128
    min_new_tokens: int | None = None
    min_length: int | None = None
    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = 50
    top_p: float | None = None
    repetition_penalty: float | None = None
    stop_strings: tuple[str, ...] = ()
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    seed: int | None = None
    num_return_sequences: int = 1
    overflow: Overflow = "error"

    def __post_init__(self) -> None:
        checked: dict[str, object] = {
            "do_sample": _boolean("do_sample", self.do_sample),
            "stop_strings": _strings("stop_strings", self.stop_strings),
            "eos_token_id": _token_ids("eos_token_id", self.eos_token_id),
            "overflow": _choice("overflow", self.overflow, get_args(Overflow)),
        }
        for name, (smallest, remedy) in _INTEGERS.items():
            value = getattr(self, name)
            if value is not None or name in _REQUIRED:
                checked[name] = _integer(name, value, smallest, remedy)
        for name, (low, high, remedy) in _FLOATS.items():
            value = getattr(self, name)
            if value is not None:
                checked[name] = _real(name, value, low, high, remedy)
        for name, converted in checked.items():
            object.__setattr__(self, name, converted)
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.min_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            raise ConfigError(
                f"min_new_tokens={self.min_new_tokens} exceeds max_new_tokens={self.max_new_tokens}: "
                "lower the first or raise the second."
            )
        if self.do_sample:
            return
        for name, no_effect in _NO_EFFECT.items():
            value = getattr(self, name)
            if value not in no_effect:
                raise ConfigError(
                    f"{name}={value} has no effect with do_sample=False: "
                    f"set do_sample=True to sample, or leave {name} out."
                )
        if self.num_return_sequences > 1:
            raise ConfigError(
                f"num_return_sequences={self.num_return_sequences} needs do_sample=True, since greedy "
                "decoding gives the same text each time: set do_sample=True, or ask for 1 sequence."
            )

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The ids of `eos_token_id` as a tuple, empty where there is none."""
        if self.eos_token_id is None:
            return ()
        return (self.eos_token_id,) if isinstance(self.eos_token_id, int) else self.eos_token_id

    def replace(self, **overrides: Any) -> GenerationConfig:
        """A copy with some options changed.

        `replace(do_sample=False)` also puts temperature, top_k and top_p back to their defaults unless they
        are given as well: whoever asks a sampling configuration for greedy decoding means just that.

        Raises:
            TypeError: an unknown option (the message names the closest known one), or a wrong type.
            ConfigError: as for the constructor.
        """
        for name in overrides:
            if name not in _DEFAULTS:
                close = difflib.get_close_matches(name, _DEFAULTS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known options: {', '.join(_DEFAULTS)}."
                raise TypeError(f"unknown generation option {name!r}; {hint}")
        if not overrides.get("do_sample", True):
            overrides = {name: _DEFAULTS[name] for name in _NO_EFFECT} | overrides
        return dataclasses.replace(self, **overrides)

    @classmethod
    def from_hf(cls, data: Mapping[str, object]) -> GenerationConfig:
        """The options in the contents of a Hugging Face `generation_config.json`.

        An absent option keeps its default; null turns top_k off. Bookkeeping is ignored. One `UserWarning`
        names the options that neort lacks and those of sampling that the file itself leaves unused: without
        `"do_sample": true` temperature, top_k and top_p are dropped, and `do_sample=True` later does not
        bring them back.

        Raises:
            TypeError, ConfigError: as for the constructor.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"generation_config.json must hold an object of options, not {_type(data)}")
        options = {k: v for k, v in data.items() if k in _DEFAULTS and (v is not None or k == "top_k")}
        unused = {}
        if not options.get("do_sample", False):
            unused = {k: v for k, v in options.items() if k in _NO_EFFECT and v not in _NO_EFFECT[k]}
        lacking = {k: v for k, v in data.items() if k not in _DEFAULTS and _changes_output(k, v)}
        _warn_ignored(lacking, unused)
        return cls(**{k: v for k, v in options.items() if k not in unused})  # type: ignore[arg-type]


_DEFAULTS: dict[str, object] = {field.name: field.default for field in dataclasses.fields(GenerationConfig)}


def _changes_output(key: str, value: object) -> bool:
    if key in _BOOKKEEPING or key.startswith(_BOOKKEEPING_PREFIXES):
        return False
    return not (value is None or value == [] or value == {} or (key in _NEUTRAL and value == _NEUTRAL[key]))


def _warn_ignored(lacking: dict[str, object], unused: dict[str, object]) -> None:
    def listed(options: dict[str, object]) -> str:
        return ", ".join(f"{key}={value!r}" for key, value in options.items())

    sentences = []
    if lacking:
        sentences.append(f"neort does not have {listed(lacking)}: texts may differ from transformers'.")
    if unused:
        sentences.append(f"{listed(unused)} without do_sample=true has no effect: give both when you sample.")
    if sentences:
        warnings.warn(f"generation_config.json: ignored options. {' '.join(sentences)}", UserWarning, stacklevel=3)


def _type(value: object) -> str:
    return type(value).__name__


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r} must be True or False, not {_type(value)}")
    return bool(value)


def _integer(name: str, value: object, smallest: int, remedy: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r} must be an integer, not {_type(value)}: {remedy}.")
    if value < smallest:
        raise ConfigError(f"{name}={value} must be at least {smallest}: {remedy}.")
    return int(value)


def _real(name: str, value: object, low: float, high: float, remedy: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}={value!r} must be a number, not {_type(value)}: {remedy}.")
    if not low <= value <= high:  # also refuses NaN
        raise ConfigError(f"{name}={value} must lie between {low:g} and {high:g}: {remedy}.")
    return float(value)


def _choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} must be a string, not {_type(value)}: use one of {', '.join(choices)}.")
    if value not in choices:
        raise ConfigError(f"{name}={value!r} is not known: use one of {', '.join(choices)}.")
    return value


def _strings(name: str, value: object) -> tuple[str, ...]:
    strings = () if value is None else (value,) if isinstance(value, str) else value
    if isinstance(strings, (bytes, bytearray)) or not isinstance(strings, Sequence):
        raise TypeError(f"{name}={value!r} must be a string or a sequence of strings, not {_type(value)}")
    for string in strings:
        if not isinstance(string, str):
            raise TypeError(f"{name} holds {string!r}, which is not a string but {_type(string)}")
        if not string:
            raise ConfigError(f"{name} holds an empty string, which would end every text at once: leave it out.")
    return tuple(strings)


def _token_ids(name: str, value: object) -> int | tuple[int, ...] | None:
    remedy = "use a token id, a sequence of them, or None where the model has no such token"
    if value is None:
        return None
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
        return _integer(name, value, 0, remedy)
    if not value:
        raise ConfigError(f"{name}={value!r} holds no id: {remedy}.")
    return tuple(_integer(name, token, 0, remedy) for token in value)
