"""``neort``: generate text, look at a bundle, check a bundle, evaluate it. One file per command."""

from __future__ import annotations

from .main import main

__all__ = ["main"]
