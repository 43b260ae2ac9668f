"""What a decode step has to read and a prompt has to multiply, from a model's dimensions and a system's number formats.

Against the machine's limits (`machine.roofline`) these tell how much of what is possible a system reaches. Only what
grows with the model is counted: the weights of linear layers and lm_head, and the cache. Biases, LayerNorm, the
embeddings of single tokens, the arithmetic of attention and whatever a system reads or computes beyond the need are its
own loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Numbers", "bytes_per_step", "cached_values", "head_weights", "linear_weights", "operations_of_prompt"]

Config = dict[str, Any]  # a checkpoint's config.json


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


def linear_weights(config: Config) -> int:
    """Weights of all layers' linear products: q, k, v and out_proj, and the MLP's two."""
    hidden = config["hidden_size"]
    inner = config.get("intermediate_size") or 4 * hidden
    count: int = config["num_layers"] * (4 * hidden * hidden + 2 * hidden * inner)
    return count


def head_weights(config: Config) -> int:
    """Weights of lm_head."""
    count: int = config["vocab_size"] * config["hidden_size"]
    return count


def cached_values(config: Config, tokens: int, windowed: bool = True) -> int:
    """Keys and values that one sequence's next token attends to after ``tokens``; local layers see only a window."""
    kinds = [kind for kinds, times in config["attention_types"] for kind in kinds * times]
    seen = [min(tokens, config["window_size"]) if kind == "local" and windowed else tokens for kind in kinds]
    count: int = 2 * config["hidden_size"] * sum(seen)
    return count


def bytes_per_step(config: Config, numbers: Numbers, tokens: int, sequences: int = 1) -> float:
    """Bytes that a decode step must read: every weight once, and each sequence's cache of ``tokens``."""
    weights = linear_weights(config) * numbers.linear_bytes + head_weights(config) * numbers.head_bytes
    return weights + sequences * cached_values(config, tokens, numbers.windowed) * numbers.cache_bytes


def operations_of_prompt(config: Config, tokens: int, sequences: int = 1) -> int:
    """Operations of the linear layers for all tokens, and of lm_head for the last ones; an addition counts as one."""
    return 2 * sequences * (tokens * linear_weights(config) + head_weights(config))
