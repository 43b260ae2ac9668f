"""Families of models: one file each, and a registry by the ``model_type`` of config.json.

A family is all that is particular about it: names and layouts of tensors, names in the configuration, how attention
scores are scaled, which layers see a window, and transformers' modules. The rest of the exporter asks the family.
"""

from __future__ import annotations

from typing import Any

from .architecture import Architecture, Dimensions, Linear, TensorNames, stored_head_dim
from .gpt2 import GPT2
from .gpt_neo import GPTNeo

__all__ = [
    "ARCHITECTURES",
    "GPT2",
    "Architecture",
    "Dimensions",
    "GPTNeo",
    "Linear",
    "TensorNames",
    "architecture_of",
    "stored_head_dim",
]

ARCHITECTURES: dict[str, Architecture] = {family.model_type: family for family in (GPTNeo(), GPT2())}


def architecture_of(config: Any) -> Architecture:
    """Return the family of one of transformers' configurations. Raises KeyError for one that is not registered."""
    return ARCHITECTURES[config.model_type]
