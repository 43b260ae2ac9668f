"""Requests on slots: who is let in, steps, and what comes out."""

from __future__ import annotations

from ..runner import PREFILL_CHUNK
from .core import EngineCore
from .engine import Engine
from .output import Collector, Completion, Piece
from .request import FinishReason, Request, Stats, TokenSink
from .scheduler import Scheduler
from .scoring import Reading, ReadingScores, TokenScores

__all__ = [
    "PREFILL_CHUNK",
    "Collector",
    "Completion",
    "Engine",
    "EngineCore",
    "FinishReason",
    "Piece",
    "Reading",
    "ReadingScores",
    "Request",
    "Scheduler",
    "Stats",
    "TokenScores",
    "TokenSink",
]
