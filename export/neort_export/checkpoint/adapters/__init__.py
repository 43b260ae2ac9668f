"""LoRA adapters in peft's files, merged into a checkpoint's weights as these are read."""

from __future__ import annotations

from .adapter import Adapter

__all__ = ["Adapter"]
