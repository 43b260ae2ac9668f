"""All of onnxruntime: how a graph is opened, what the processor makes of it, and how it runs on the cache."""

from __future__ import annotations

import os

# Full opt-out from onnxruntime's telemetry, which reads the environment once, when it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

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
