"""The application: handlers behind HTTP, with keys, limits, metrics and an orderly end. Needs neort[serve]."""

from __future__ import annotations

from ...errors import MissingExtraError

try:
    from .access import Keys
    from .application import create_app
    from .serving import serve
    from .settings import Settings
    from .transport import listening_socket
except ModuleNotFoundError as error:
    if (error.name or "neort").partition(".")[0] == "neort":
        raise
    raise MissingExtraError(
        f"a server needs {error.name}, which is not installed; get it by: pip install 'neort[serve]'"
    ) from error

__all__ = ["Keys", "Settings", "create_app", "listening_socket", "serve"]
