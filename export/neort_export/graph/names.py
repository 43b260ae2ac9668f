"""Names of values in the graphs: inputs and outputs, which are the bundle's, and what one rewrite leaves for another.

Weights have their state-dict names; a linear layer that becomes one node is called after its weight.
"""

from __future__ import annotations

from neort.bundle.graph_names import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    LOGITS_TO_KEEP,
    POSITION_IDS,
    SEQLENS_K,
    TOTAL_SEQUENCE_LENGTH,
    cache_parts,
    is_past,
    layer_parts,
    local,
    part_of,
    past,
    present,
)

__all__ = [
    "ATTENDED_SHAPE",
    "ATTENDED_WIDTH",
    "ATTENTION_MASK",
    "BATCH_SIZE",
    "HIDDEN_BY_SEQUENCE",
    "HIDDEN_SIZE",
    "HIDDEN_STATES",
    "INPUT_IDS",
    "LAST_BY_SEQUENCE",
    "LOGITS",
    "LOGITS_TO_KEEP",
    "LOGIT_ROWS",
    "POSITION_IDS",
    "QKV_WIDTH",
    "ROWS_SHAPE",
    "SEQLENS_K",
    "SEQUENCE_LENGTH",
    "TOKENS_SHAPE",
    "TOTAL_SEQUENCE_LENGTH",
    "cache_parts",
    "is_past",
    "layer_parts",
    "linear",
    "local",
    "module_of",
    "part_of",
    "past",
    "present",
    "product",
    "quantized",
    "scale",
    "zero_point",
]

# Axes of inputs and outputs
BATCH_SIZE = "batch_size"
SEQUENCE_LENGTH = "sequence_length"

# Values
TOKENS_SHAPE = "tokens_shape"  # [B, S]
ROWS_SHAPE = "rows_shape"  # [-1, K]
QKV_WIDTH = "qkv_width"  # [3 heads of the graph's width]
ATTENDED_SHAPE = "attended_shape"  # [-1, the width of all heads], where that is not K
ATTENDED_WIDTH = "attended_width"  # [the width of all heads], likewise
HIDDEN_SIZE = "hidden_size"  # [K]
HIDDEN_STATES = "hidden_states"  # the embedded tokens [B*S, K]
HIDDEN_BY_SEQUENCE = "hidden_by_sequence"  # the last layer's output [B, S, K]
LAST_BY_SEQUENCE = "last_by_sequence"  # those of its rows that get logits [B, n, K]
LOGIT_ROWS = "logits/rows"  # what lm_head computes [B*n, V]


def module_of(weight: str) -> str:
    """Return the module that a weight belongs to: its name without ``.weight``."""
    return weight.removesuffix(".weight")


def linear(weight: str) -> str:
    """Return the output of a linear layer in float32."""
    return f"{module_of(weight)}/linear"


def product(weight: str) -> str:
    """Return the output of a quantized linear layer's product."""
    return f"{module_of(weight)}/product"


def quantized(weight: str) -> str:
    """Return the weight's quantized values."""
    return f"{weight}_quantized"


def scale(name: str) -> str:
    """Return the scales of a weight's quantized values, or of a part of the cache."""
    return f"{name}_scale"


def zero_point(weight: str) -> str:
    """Return the zero points of a weight's quantized values."""
    return f"{weight}_zero_point"
