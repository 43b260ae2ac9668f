"""Families of models: one file each, and a registry by the ``model_type`` of config.json.

A family is all that is particular about it: names and layouts of tensors, names in the configuration, how attention
scores are scaled, which layers see a window, and transformers' modules. The rest of the exporter asks the family.
"""

from __future__ import annotations

from typing import Any

from .architecture import Architecture, Dimensions, Linear, TensorNames
from .gpt_neo import GPTNeo

__all__ = ["ARCHITECTURES", "Architecture", "Dimensions", "GPTNeo", "Linear", "TensorNames", "architecture_of"]

ARCHITECTURES: dict[str, Architecture] = {family.model_type: family for family in (GPTNeo(),)}


def architecture_of(config: Any) -> Architecture:
    """Return the family of one of transformers' configurations. Raises KeyError for one that is not registered."""
    return ARCHITECTURES[config.model_type]
