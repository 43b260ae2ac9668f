"""GPT-Neo's weights in GPT-2's layout, for systems that know only that: the same products, so the same work.

GPT-2 divides attention scores by sqrt(head_dim), so q is multiplied by it; q, k and v get a bias of zeros. There is no
local window, so results agree up to window_size tokens, and beyond it these systems attend to more keys.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Weights", "read_config"]

Array = NDArray[np.float32]


def read_config(checkpoint: Path) -> dict[str, Any]:
    """Read the checkpoint's config.json."""
    config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return config


class Weights:
    """Reads a sharded safetensors checkpoint; a linear layer's weight is [outputs, inputs]."""

    def __init__(self, checkpoint: Path) -> None:
        from safetensors import safe_open

        self._readers: dict[str, Any] = {}
        for file in sorted(checkpoint.glob("*.safetensors")):
            reader: Any = safe_open(file, "np")
            self._readers |= dict.fromkeys(reader.keys(), reader)
        config = read_config(checkpoint)
        self._q_scale = math.sqrt(config["hidden_size"] / config["num_heads"])

    def tensor(self, name: str) -> Array:
        array: Array = self._readers[f"transformer.{name}"].get_tensor(f"transformer.{name}").astype(np.float32)
        return array

    def qkv(self, layer: int) -> Array:
        q, k, v = (self.tensor(f"h.{layer}.attn.attention.{kind}_proj.weight") for kind in "qkv")
        return np.concatenate([q * np.float32(self._q_scale), k, v])
