"""``neort``: the parser, its streams and its end; what it does is in commands, a file for each."""

from __future__ import annotations

from .main import main

__all__ = ["main"]
