"""What each route does: decoded JSON in, an answer or its parts out. Knows models and event loops, and no sockets."""

from __future__ import annotations

from ..protocol.routes import ROUTES, Route
from .contract import Answer, Call, Events, Finished, Limits, Observer, ServedModel, Silent, failure_of
from .handlers import Handlers

__all__ = [
    "ROUTES",
    "Answer",
    "Call",
    "Events",
    "Finished",
    "Handlers",
    "Limits",
    "Observer",
    "Route",
    "ServedModel",
    "Silent",
    "failure_of",
]
