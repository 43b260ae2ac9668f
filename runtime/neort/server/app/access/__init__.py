"""Who may use a server, and the line that is written about it."""

from __future__ import annotations

from .guard import Guard
from .keys import Keys

__all__ = ["Guard", "Keys"]
