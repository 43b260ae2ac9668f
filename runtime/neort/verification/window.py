"""How far a test of a model has to reach."""

from __future__ import annotations

from typing import Protocol

__all__ = ["window_to_pass"]

USUAL = 256  # keys that GPT-Neo's local layers see


class _Layers(Protocol):
    @property
    def window_size(self) -> int: ...

    @property
    def attention_layers(self) -> tuple[str, ...]: ...


def window_to_pass(model: _Layers) -> int:
    """Return the window past which a model is tested: that of its local layers, GPT-Neo's usual one without any."""
    return model.window_size if "local" in model.attention_layers else min(USUAL, model.window_size)
