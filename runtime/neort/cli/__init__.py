"""``neort``: generate text, look at a bundle, check a bundle."""

from __future__ import annotations

from .main import main

__all__ = ["main"]
