"""The application: handlers behind HTTP, with keys, limits, metrics and an orderly end. Needs neort[serve]."""

from __future__ import annotations

from .access import Keys
from .application import create_app
from .serving import serve
from .settings import Settings
from .transport import listening_socket

__all__ = ["Keys", "Settings", "create_app", "listening_socket", "serve"]
