"""What a decode step has to read and a prompt has to multiply, from a model's dimensions and a system's number formats.

Against the machine's limits (`machine.roofline`) these tell how much of what is possible a system reaches. Only what
grows with the model is counted: the weights of linear layers and lm_head, and the cache. Biases, LayerNorm, the
embeddings of single tokens, the arithmetic of attention and whatever a system reads or computes beyond the need are its
own loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from neort_export.architectures import Architecture, Dimensions, architecture_of

__all__ = [
    "Numbers",
    "bytes_per_step",
    "cached_values",
    "described",
    "head_weights",
    "linear_weights",
    "operations_of_prompt",
]

Config = dict[str, Any]  # a checkpoint's config.json, in which the kinds of layers are listed


@dataclass(frozen=True)
class Numbers:
    """How a system keeps a model: bytes of one number, the scales of its block included.

    ``linear_bytes`` and ``head_bytes`` are those of a weight of the layers' linear products and of lm_head,
    ``cache_bytes`` those of a key or a value. ``products`` is what it multiplies, "int8", "fp32" or "bf16", hence which
    limit of `roofline.Limits` holds. ``windowed``: local layers see only a window; GPT-2's layout has none.
    """

    linear_bytes: float
    head_bytes: float
    cache_bytes: float
    products: str
    windowed: bool = True


def described(config: Config) -> tuple[Architecture, Dimensions]:
    """The family and the sizes of a model, of its settings alone: transformers, which takes seconds, is not needed."""
    settings = SimpleNamespace(**config)
    family = architecture_of(settings)
    for name, own in family.attribute_map.items():
        setattr(settings, name, config[own])
    return family, family.dimensions(settings)


def linear_weights(config: Config) -> int:
    """Weights of all layers' linear products."""
    family, dimensions = described(config)
    return sum(linear.rows * linear.columns for linear in family.linear_weights(dimensions).values())


def head_weights(config: Config) -> int:
    """Weights of lm_head."""
    _, dimensions = described(config)
    return dimensions.vocab_size * dimensions.hidden_size


def cached_values(config: Config, tokens: int, windowed: bool = True) -> int:
    """Keys and values that one sequence's next token attends to after ``tokens``; local layers see only a window."""
    _, dimensions = described(config)
    window = min(tokens, dimensions.window_size) if windowed else tokens
    seen = [window if kind == "local" else tokens for kind in dimensions.attention_layers]
    return 2 * dimensions.hidden_size * sum(seen)


def bytes_per_step(config: Config, numbers: Numbers, tokens: int, sequences: int = 1) -> float:
    """Bytes that a decode step must read: every weight once, and each sequence's cache of ``tokens``."""
    weights = linear_weights(config) * numbers.linear_bytes + head_weights(config) * numbers.head_bytes
    return weights + sequences * cached_values(config, tokens, numbers.windowed) * numbers.cache_bytes


def operations_of_prompt(config: Config, tokens: int, sequences: int = 1) -> int:
    """Operations of the linear layers for all tokens, and of lm_head for the last ones; an addition counts as one."""
    return 2 * sequences * (tokens * linear_weights(config) + head_weights(config))
