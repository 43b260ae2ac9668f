"""Requests on slots: who is let in, steps, and what comes out."""

from __future__ import annotations

from ..runner import PREFILL_CHUNK
from .beams import Beams, BeamSink, EndOfText, Found
from .core import EngineCore
from .engine import Engine
from .figures import EngineFigures
from .group import Copy, FinishReason, Group, Sequence, Stats
from .limits import check_ids
from .output import BeamCollector, Collecting, Collector, Completion, Piece
from .reading import Reading, ReadingResult, Reduction, RowSource
from .request import Request, TokenSink
from .scheduler import Scheduler
from .scoring import ReadingScores, ScoredReading, TokenScores

__all__ = [
    "PREFILL_CHUNK",
    "BeamCollector",
    "BeamSink",
    "Beams",
    "Collecting",
    "Collector",
    "Completion",
    "Copy",
    "EndOfText",
    "Engine",
    "EngineCore",
    "EngineFigures",
    "FinishReason",
    "Found",
    "Group",
    "Piece",
    "Reading",
    "ReadingResult",
    "ReadingScores",
    "Reduction",
    "Request",
    "RowSource",
    "Scheduler",
    "ScoredReading",
    "Sequence",
    "Stats",
    "TokenScores",
    "TokenSink",
    "check_ids",
]
