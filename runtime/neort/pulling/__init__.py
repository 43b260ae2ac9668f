"""`neort pull`: the only room that opens a connection, and asks for one. Only the command line knows it."""

from __future__ import annotations

from .delivery import Listener, Pulled, pull

__all__ = ["Listener", "Pulled", "pull"]
