"""Where a checkpoint lies: a folder here, or a repository on the Hugging Face hub, which is fetched into the cache."""

from __future__ import annotations

from .locate import Located, locate
from .parts import Parts

__all__ = ["Located", "Parts", "locate"]
