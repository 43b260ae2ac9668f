"""All of onnxruntime: how a graph is opened, what the processor makes of it, and how it runs on the cache."""

from __future__ import annotations

from .detached import DetachedSession
from .inputs import RunInputs, needs_dummy
from .int8_products import PrecisionWarning
from .runner import DecoderSession
from .session import DECODER, DECODERS, open_session, session_options, split_below
from .threads import available_cpus

__all__ = [
    "DECODER",
    "DECODERS",
    "DecoderSession",
    "DetachedSession",
    "PrecisionWarning",
    "RunInputs",
    "available_cpus",
    "needs_dummy",
    "open_session",
    "session_options",
    "split_below",
]
