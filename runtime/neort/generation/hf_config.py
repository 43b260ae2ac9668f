"""The options in a Hugging Face `generation_config.json`: those that neort has, and a word about the others."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentTypeError
from ..wording import LONGEST_VALUE, shortened
from .config import OPTIONS, SAMPLING, GenerationConfig

__all__ = ["read_hf_config"]

MOST_NAMED = 8  # options in one warning

# Keys of transformers' files that never change which tokens come out of a single, unbeamed sequence.
BOOKKEEPING = {
    "bos_token_id", "compile_config", "continuous_batching_config", "decoder_start_token_id",
    "disable_compile", "early_stopping", "is_assistant", "length_penalty", "low_memory", "max_cache_len",
    "max_matching_ngram_size", "num_assistant_tokens", "num_assistant_tokens_schedule", "num_beam_groups",
    "prefill_chunk_size", "prompt_lookup_num_tokens", "renormalize_logits", "speculation_type",
    "target_lookbehind", "transformers_version", "use_cache", "use_mtp",
}  # fmt: skip
BOOKKEEPING_PREFIXES = ("_", "assistant_", "cache_", "output_", "return_")

# Options that neort lacks, with the value at which transformers does nothing; for any other key that is null.
NEUTRAL: dict[str, object] = {
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


def read_hf_config(data: Mapping[str, object]) -> GenerationConfig:
    """The options in the contents of a Hugging Face `generation_config.json`.

    An absent option keeps its default; null turns top_k off. Bookkeeping is ignored. One `UserWarning` names the
    options that neort lacks and those of sampling that the file itself leaves unused: without `"do_sample": true`
    temperature, top_k and top_p are dropped, and `do_sample=True` later does not bring them back. How many sequences
    are wanted is for a call to say: ``num_return_sequences`` is left out, too.

    Raises:
        ArgumentTypeError, ConfigError: as for GenerationConfig.
    """
    if not isinstance(data, Mapping):
        raise ArgumentTypeError(f"generation_config.json must hold an object of options, not {type(data).__name__}")
    known: dict[str, Any] = {k: v for k, v in data.items() if k in OPTIONS and (v is not None or k == "top_k")}
    count = known.pop("num_return_sequences", 1)
    unused = {}
    if not known.get("do_sample", False):
        unused = {k: v for k, v in known.items() if k in SAMPLING and v not in SAMPLING[k].neutral}
    lacking = {k: v for k, v in data.items() if k not in OPTIONS and _changes_output(k, v)}
    _warn_ignored(lacking, unused, count)
    return GenerationConfig(**{k: v for k, v in known.items() if k not in unused})


def _shown_key(key: str) -> str:
    return key if key.isidentifier() and len(key) <= LONGEST_VALUE else shortened(key)


def _changes_output(key: str, value: object) -> bool:
    if key in BOOKKEEPING or key.startswith(BOOKKEEPING_PREFIXES):
        return False
    return not (value is None or value == [] or value == {} or (key in NEUTRAL and value == NEUTRAL[key]))


def _warn_ignored(lacking: dict[str, object], unused: dict[str, object], count: object) -> None:
    def listed(options: dict[str, object]) -> str:
        shown = [f"{_shown_key(key)}={shortened(value)}" for key, value in options.items()]
        return ", ".join([*shown[:MOST_NAMED], *([f"{len(shown) - MOST_NAMED} more"] if shown[MOST_NAMED:] else [])])

    sentences = []
    if lacking:
        sentences.append(f"neort does not have {listed(lacking)}: texts may differ from transformers'.")
    if unused:
        sentences.append(f"{listed(unused)} without do_sample=true has no effect: give both when you sample.")
    if count != 1:
        sentences.append(f"num_return_sequences={shortened(count)} is for a call to say: give it to generate.")
    if sentences:
        warnings.warn(f"generation_config.json: ignored options. {' '.join(sentences)}", UserWarning, stacklevel=4)
