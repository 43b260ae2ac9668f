"""Names of values in the graphs: inputs, outputs, and what one rewrite leaves for another.

Weights have their state-dict names; a linear layer that becomes one node is called after its weight.
"""

from __future__ import annotations

__all__ = [
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
    "ROWS_SHAPE",
    "SEQLENS_K",
    "SEQUENCE_LENGTH",
    "TOKENS_SHAPE",
    "TOTAL_SEQUENCE_LENGTH",
    "cache_parts",
    "is_past",
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

# Inputs and outputs
INPUT_IDS = "input_ids"
POSITION_IDS = "position_ids"
SEQLENS_K = "seqlens_k"
TOTAL_SEQUENCE_LENGTH = "total_sequence_length"
LOGITS_TO_KEEP = "logits_to_keep"
ATTENTION_MASK = "attention_mask"
LOGITS = "logits"

# Axes of inputs and outputs
BATCH_SIZE = "batch_size"
SEQUENCE_LENGTH = "sequence_length"

# Values
TOKENS_SHAPE = "tokens_shape"  # [B, S]
ROWS_SHAPE = "rows_shape"  # [-1, K]
HIDDEN_SIZE = "hidden_size"  # [K]
HIDDEN_STATES = "hidden_states"  # the embedded tokens [B*S, K]
HIDDEN_BY_SEQUENCE = "hidden_by_sequence"  # the last layer's output [B, S, K]
LAST_BY_SEQUENCE = "last_by_sequence"  # those of its rows that get logits [B, n, K]
LOGIT_ROWS = "logits/rows"  # what lm_head computes [B*n, V]

PAST = "past_key_values."


def local(name: str) -> str:
    """Return the input that local layers have in the place of ``name``, since their past may begin later."""
    return f"local_{name}"


def cache_parts(num_layers: int) -> list[str]:
    """Return the cache's parts in the order of inputs and outputs: "0.key", "0.value", "1.key" ..."""
    return [f"{layer}.{kind}" for layer in range(num_layers) for kind in ("key", "value")]


def past(part: str) -> str:
    """Return the input that a part of the cache is read from."""
    return f"{PAST}{part}"


def present(part: str) -> str:
    """Return the output that a part of the cache is written to."""
    return f"present.{part}"


def is_past(name: str | None) -> bool:
    """Say whether an input is a part of the cache."""
    return (name or "").startswith(PAST)


def part_of(name: str) -> str:
    """Return the part of the cache that an input is."""
    return name.removeprefix(PAST)


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
