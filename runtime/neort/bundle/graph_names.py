"""Names of the inputs and outputs of a bundle's graphs, which the exporter writes and the runtime binds.

``local`` inputs are those that local layers have of their own, since their past may begin later. A part of the cache is
named "0.key", "0.value", "1.key" and so on.
"""

from __future__ import annotations

__all__ = [
    "ATTENTION_MASK",
    "INPUT_IDS",
    "LOCAL_SEQLENS_K",
    "LOCAL_TOTAL_SEQUENCE_LENGTH",
    "LOGITS",
    "LOGITS_TO_KEEP",
    "POSITION_IDS",
    "SEQLENS_K",
    "TOTAL_SEQUENCE_LENGTH",
    "cache_parts",
    "is_past",
    "layer_parts",
    "local",
    "part_of",
    "past",
    "present",
]

INPUT_IDS = "input_ids"
POSITION_IDS = "position_ids"
SEQLENS_K = "seqlens_k"
TOTAL_SEQUENCE_LENGTH = "total_sequence_length"
LOGITS_TO_KEEP = "logits_to_keep"
ATTENTION_MASK = "attention_mask"  # of the portable graph, in the place of lengths
LOGITS = "logits"

_PAST = "past_key_values."
_PRESENT = "present."


def local(name: str) -> str:
    """Return the input that local layers have in the place of ``name``."""
    return f"local_{name}"


LOCAL_SEQLENS_K = local(SEQLENS_K)
LOCAL_TOTAL_SEQUENCE_LENGTH = local(TOTAL_SEQUENCE_LENGTH)


def layer_parts(layer: int | str) -> tuple[str, str]:
    """Return a layer's two parts of the cache: its keys and its values. A string stands for a pattern such as "%d"."""
    return f"{layer}.key", f"{layer}.value"


def cache_parts(num_layers: int) -> list[str]:
    """Return the cache's parts in the order of inputs and outputs: "0.key", "0.value", "1.key" ..."""
    return [part for layer in range(num_layers) for part in layer_parts(layer)]


def past(part: str) -> str:
    """Return the input that a part of the cache is read from."""
    return f"{_PAST}{part}"


def present(part: str) -> str:
    """Return the output that a part of the cache is written to."""
    return f"{_PRESENT}{part}"


def is_past(name: str | None) -> bool:
    """Say whether an input is a part of the cache."""
    return (name or "").startswith(_PAST)


def part_of(name: str) -> str:
    """Return the part of the cache that an input is."""
    return name.removeprefix(_PAST)
