"""The settings of a config.json that make the model: which values transformers computes with.

Checked before transformers reads them, whose releases complain in different words, late, or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neort.wording import shortened

from ..errors import CheckpointError

__all__ = ["REMEDY", "SIZE", "checked_settings", "is_size"]

REMEDY = "fetch the checkpoint again, or correct config.json"
LARGEST_SIZE = 2**31 - 1
SIZE = f"a whole number from 1 to {LARGEST_SIZE:,}"


def is_size(value: object) -> bool:
    """Whether a value is a size: a whole number, and neither true nor false."""
    return type(value) is int and 1 <= value <= LARGEST_SIZE


def _is_epsilon(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf  # type: ignore[operator]


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]


def _is_token(value: object) -> bool:
    return value is None or all(type(each) is int for each in (value if isinstance(value, list) else [value]))


def _is_activation(value: object) -> bool:
    return isinstance(value, str) and value in _activations()


def _activations() -> list[str]:
    from transformers.activations import ACT2FN

    return sorted(name for name in ACT2FN if name not in WITH_WEIGHTS)


WITH_WEIGHTS = ("prelu", "xielu")  # of their own, which no file of these architectures has
Kind = tuple[Callable[[object], bool], Callable[[], str]]

KINDS: dict[Kind, tuple[str, ...]] = {
    (is_size, lambda: SIZE): (
        "hidden_size",
        "max_position_embeddings",
        "n_embd",
        "n_head",
        "n_layer",
        "n_positions",
        "num_attention_heads",
        "num_heads",
        "num_hidden_layers",
        "num_layers",
        "vocab_size",
        "window_size",
    ),
    (lambda value: value is None or is_size(value), lambda: f"null or {SIZE}"): ("intermediate_size", "n_inner"),
    (_is_share, lambda: "a number from 0 to 1"): (
        "attention_dropout",
        "attn_pdrop",
        "embd_pdrop",
        "embed_dropout",
        "resid_dropout",
        "resid_pdrop",
    ),
    (_is_epsilon, lambda: "a number of at least 0"): ("layer_norm_epsilon",),
    (lambda value: type(value) is bool, lambda: "true or false"): (
        "reorder_and_upcast_attn",
        "scale_attn_by_inverse_layer_idx",
        "scale_attn_weights",
        "tie_word_embeddings",
    ),
    (lambda value: value is None or type(value) is int, lambda: "null or a whole number"): ("bos_token_id",),
    (_is_token, lambda: "null, a whole number or a list of them"): ("eos_token_id",),
    (_is_activation, lambda: f"one of {', '.join(_activations())}"): ("activation_function",),
}


def checked_settings(file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a config.json, numbers as transformers 5 wants them.

    Raises CheckpointError, with the setting's name, value and range, for one that transformers does not compute with.
    """
    for (sound, wanted), names in KINDS.items():
        for name in names:
            if name in settings and not sound(settings[name]):
                raise CheckpointError(f"{file}: {name} is {shortened(settings[name])}; it must be {wanted()}; {REMEDY}")
    result = dict(settings)
    if "layer_norm_epsilon" in result:
        result["layer_norm_epsilon"] = float(result["layer_norm_epsilon"])
    return result
