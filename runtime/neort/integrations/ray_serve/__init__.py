"""What `neort serve` serves as a deployment of Ray Serve: ``serve run neort.integrations.ray_serve:build``.

Ray has the replicas, the proxies that requests come by, and the restarts; what requests get is the application's.
"""

from __future__ import annotations

from ...errors import MissingExtraError
from ..ray_settings import keep_quiet
from .options import ServeOptions

keep_quiet()
try:
    from .application import build
    from .replica import Replica
except ModuleNotFoundError as error:
    if (error.name or "neort").partition(".")[0] == "neort":
        raise
    raise MissingExtraError(
        f"Ray Serve needs {error.name}, which is not installed; get it by: pip install 'neort[ray]'"
    ) from error

__all__ = ["Replica", "ServeOptions", "build"]
