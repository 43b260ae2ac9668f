"""The options in a Hugging Face `generation_config.json`: those that neort has, and a word about the others.

transformers loads almost any value, and refuses most odd ones only when it generates. Here a value without a sound
meaning is left out and named; what transformers does not load is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentTypeError, NeortError
from ..wording import LONGEST_VALUE, shortened
from .combinations import BEAMS
from .config import OPTIONS, SAMPLING, GenerationConfig
from .constraints import CONSTRAINTS
from .kinds import Composite
from .options import Boolean, BooleanOr, Integer, Strings, TokenIds

__all__ = ["read_hf_config"]

MOST_NAMED = 8  # options in one list of a warning
UNSET_LENGTH = 20  # max_length in files of transformers 4 that set none: so many new tokens there
COLDEST = 1e-6  # the least temperature that differs from greedy decoding
SEVERAL = ("eos_token_id", "forced_eos_token_id", "stop_strings", "dry_sequence_breakers")  # that may be lists
DEFAULTS = GenerationConfig()

# Keys of transformers' files that never change which tokens come out of a single, unbeamed sequence.
BOOKKEEPING = {
    "bos_token_id", "compile_config", "continuous_batching_config", "decoder_start_token_id",
    "disable_compile", "is_assistant", "low_memory", "max_cache_len",
    "max_matching_ngram_size", "num_assistant_tokens", "num_assistant_tokens_schedule", "num_beam_groups",
    "prefill_chunk_size", "prompt_lookup_num_tokens", "speculation_type",
    "target_lookbehind", "transformers_version", "use_cache", "use_mtp",
}  # fmt: skip
BOOKKEEPING_PREFIXES = ("_", "assistant_", "cache_", "output_", "return_")

# Options that neort lacks, with the value at which transformers does nothing; for any other key that is null.
NEUTRAL: dict[str, object] = {
    "diversity_penalty": 0.0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "penalty_alpha": 0.0,
    "token_healing": False,
}


def read_hf_config(data: Mapping[str, object]) -> GenerationConfig:
    """The options in the contents of a Hugging Face `generation_config.json`.

    An absent option keeps its default; null turns top_k off. Bookkeeping is ignored. One `UserWarning` names

    - the options that neort lacks; how many sequences are wanted is for a call to say;
    - values without a sound meaning, which are left out: of the wrong type or out of range, negative token ids;
    - those of sampling that the file itself leaves unused: without `"do_sample": true` temperature, top_k and top_p are
      dropped, and `do_sample=True` later does not bring them back.

    Whole numbers may be written as 64.0. A temperature of 0 means greedy decoding, and a min_new_tokens beyond
    max_new_tokens holds as far as that.

    Raises:
        ArgumentTypeError, ConfigError: what transformers does not load, which is a max_new_tokens that is no positive
            number, or a pad_token_id that is no number.
    """
    if not isinstance(data, Mapping):
        raise ArgumentTypeError(f"generation_config.json must hold an object of options, not {type(data).__name__}")
    _refuse_what_transformers_does(data)
    reading = _Reading(data)
    config = GenerationConfig(**reading.options)
    if reading.sentences:
        told = " ".join(reading.sentences)
        warnings.warn(f"generation_config.json: ignored options. {told}", UserWarning, stacklevel=3)
    return config


def _refuse_what_transformers_does(data: Mapping[str, object]) -> None:
    most, pad = data.get("max_new_tokens"), data.get("pad_token_id")
    if most is not None and (not isinstance(most, (int, float)) or most <= 0):
        OPTIONS["max_new_tokens"].check("max_new_tokens", _whole(most))
    if pad is not None and not isinstance(pad, (int, float)):
        OPTIONS["pad_token_id"].check("pad_token_id", pad)


class _Reading:
    """What one file's options come to: ``options`` for a GenerationConfig, and ``sentences`` about the others."""

    def __init__(self, data: Mapping[str, object]) -> None:
        self.options: dict[str, Any] = {}
        self.sentences: list[str] = []
        self._left_out: dict[str, object] = {}
        known = {name: value for name, value in data.items() if _known(name) and not _is_nothing(name, value)}
        count = known.pop("num_return_sequences", 1)
        if "max_new_tokens" in known or known.get("max_length") == UNSET_LENGTH:
            known.pop("max_length", None)  # transformers then takes no notice of it, either
        if "top_k" in data:
            self.options["top_k"] = None
        if "do_sample" in known:
            self._take("do_sample", known.pop("do_sample"))
        if self._is_cold(known.get("temperature")):
            self.options["do_sample"] = False
            self.sentences.append(
                f"temperature={shortened(known.pop('temperature'))} is greedy decoding: do_sample is left out."
            )
        unused = {} if self.options.get("do_sample", False) else _with_effect_on_samples(known)
        for name, value in known.items():
            if name not in unused:
                self._take(name, value)
        self._clamp_minimum()
        self._part_beams()
        self._drop_impossible()
        self._tell(_lacking(data), unused, count)

    def _take(self, name: str, value: object) -> None:
        """Take an option in the form that it has here, or as much of it as has a meaning."""
        if name in SEVERAL and isinstance(value, list):
            each = [_whole(member) for member in value]
            sound = [member for member in each if _fits(name, member)]
            if sound or (not each and isinstance(OPTIONS[name].kind, Strings)):
                self.options[name] = sound
            whole = len(sound) == len(each)
            value = [member for member in each if not _fits(name, member)] if sound else value
        else:
            candidate = _as_kind(name, value)
            whole = _fits(name, candidate)
            if whole:
                self.options[name] = candidate
        if not whole:
            self._left_out[name] = value

    def _is_cold(self, temperature: object) -> bool:
        """Whether a temperature leaves only the most probable token to sample."""
        sampled, number = self.options.get("do_sample"), type(temperature) in (int, float)
        return bool(sampled and number and 0 <= temperature < COLDEST)  # type: ignore[operator]

    def _clamp_minimum(self) -> None:
        least = self.options.get("min_new_tokens")
        name = "max_length" if "max_length" in self.options else "max_new_tokens"
        most = self.options.get(name, DEFAULTS.max_new_tokens)
        if least is not None and least > most:
            self.options["min_new_tokens"] = most
            self.sentences.append(
                f"min_new_tokens={shortened(least)} holds up to {name}={shortened(most)}: give both for more."
            )

    def _part_beams(self) -> None:
        """Drop what means nothing without beams, or does not go together with them."""
        if self.options.get("num_beams", 1) == 1:
            self.options = {name: value for name, value in self.options.items() if name not in BEAMS}
        elif self.options.get("guidance_scale") not in (None, 1.0):
            self._left_out["guidance_scale"] = self.options.pop("guidance_scale")

    def _drop_impossible(self) -> None:
        """Leave out tokens that are to be forced although they are ruled out."""
        suppressed = set(self.options.get("suppress_tokens", ()))
        for name in ("forced_bos_token_id", "forced_eos_token_id"):
            forced = self.options.get(name)
            if forced is not None and suppressed.issuperset(forced if isinstance(forced, list) else [forced]):
                self._left_out[name] = self.options.pop(name)

    def _tell(self, lacking: dict[str, object], unused: dict[str, object], count: object) -> None:
        if lacking:
            self.sentences.append(f"neort does not have {_listed(lacking)}: texts may differ from transformers'.")
        if self._left_out:
            self.sentences.append(f"{_listed(self._left_out)} cannot be honoured and is left out.")
        if unused:
            self.sentences.append(f"{_listed(unused)} without do_sample=true has no effect: give both when you sample.")
        if count != 1:
            self.sentences.append(f"num_return_sequences={shortened(count)} is for a call to say: give it to generate.")


def _is_nothing(name: str, value: object) -> bool:
    """Whether a value says no more than an absent one."""
    return value is None or (isinstance(OPTIONS[name].kind, Composite) and value in ([], {}))


def _known(name: str) -> bool:
    """Whether a name is an option's that transformers has, too: a grammar is for a call to give."""
    return name in OPTIONS and name not in CONSTRAINTS


def _fits(name: str, value: object) -> bool:
    """Whether a value, or one of several, is one that the option may have."""
    try:
        OPTIONS[name].kind.check(name, value)
    except NeortError:
        return False
    return value is not None and (isinstance(OPTIONS[name].kind, Composite) or not isinstance(value, list))


def _as_kind(name: str, value: object) -> object:
    """A value as the option's type, where it is just written in another one's."""
    kind = OPTIONS[name].kind
    if isinstance(kind, (Boolean, BooleanOr)):
        return bool(value) if isinstance(value, (int, float)) else value
    return _whole(value) if isinstance(kind, (Integer, TokenIds, Composite)) else value


def _whole(value: object) -> object:
    """An integer that is written as 64.0, as an integer, also where lists hold it."""
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with_effect_on_samples(known: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in known.items() if name in SAMPLING and value not in SAMPLING[name].neutral}


def _lacking(data: Mapping[str, object]) -> dict[str, object]:
    """The options that neort lacks and that may change what transformers generates."""
    return {name: value for name, value in data.items() if not _known(name) and _changes_output(name, value)}


def _changes_output(key: str, value: object) -> bool:
    if key in BOOKKEEPING or key.startswith(BOOKKEEPING_PREFIXES):
        return False
    return not (value is None or value == [] or value == {} or (key in NEUTRAL and value == NEUTRAL[key]))


def _listed(options: dict[str, object]) -> str:
    shown = [f"{_shown_key(key)}={shortened(value)}" for key, value in options.items()]
    return ", ".join([*shown[:MOST_NAMED], *([f"{len(shown) - MOST_NAMED} more"] if shown[MOST_NAMED:] else [])])


def _shown_key(key: str) -> str:
    return key if key.isidentifier() and len(key) <= LONGEST_VALUE else shortened(key)
