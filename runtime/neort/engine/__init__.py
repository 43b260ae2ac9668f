"""Requests on slots: who is let in, steps, and what comes out."""

from __future__ import annotations

from ..runner import PREFILL_CHUNK
from .core import EngineCore
from .engine import Engine
from .output import Collector, Completion, Piece
from .request import FinishReason, Request, Stats, TokenSink
from .scheduler import Scheduler, check_ids

__all__ = [
    "PREFILL_CHUNK",
    "Collector",
    "Completion",
    "Engine",
    "EngineCore",
    "FinishReason",
    "Piece",
    "Request",
    "Scheduler",
    "Stats",
    "TokenSink",
    "check_ids",
]
