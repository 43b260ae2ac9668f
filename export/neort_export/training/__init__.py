"""A small checkpoint, trained on a text file."""

from __future__ import annotations

__all__ = []
