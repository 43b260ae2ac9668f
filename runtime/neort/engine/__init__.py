"""Requests on slots: admission, steps, and what comes out."""

from __future__ import annotations

from .engine import PREFILL_CHUNK, Engine, MeasuredRunner, Runner
from .output import Collector, Completion, Piece
from .request import FinishReason, Stats

__all__ = [
    "PREFILL_CHUNK",
    "Collector",
    "Completion",
    "Engine",
    "FinishReason",
    "MeasuredRunner",
    "Piece",
    "Runner",
    "Stats",
]
