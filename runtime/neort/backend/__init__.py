"""All of onnxruntime: how a graph is opened, what the processor makes of it, and how it runs on the cache."""

from __future__ import annotations

import os

# Full opt-out from onnxruntime's telemetry, which reads the environment once, when it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from .checks import INT8_CACHE_SINCE, open_attention, split_below
from .detached import DetachedSession
from .inputs import (
    BoundInputs,
    RunInputs,
    bind_buffer,
    bind_past,
    common_rows,
    first_row,
    needs_dummy,
    own_rows,
)
from .int8_products import PrecisionWarning
from .options import (
    UNSIGNED_WEIGHTS_SINCE,
    int8_products_saturate_here,
    onnxruntime_version,
    open_session,
    plain_options,
    run_with,
    session_options,
)
from .runner import DecoderSession
from .session import DECODER, DECODERS
from .threads import available_cpus, cgroup_quota, checked_threads, thread_limit

__all__ = [
    "DECODER",
    "DECODERS",
    "INT8_CACHE_SINCE",
    "UNSIGNED_WEIGHTS_SINCE",
    "BoundInputs",
    "DecoderSession",
    "DetachedSession",
    "PrecisionWarning",
    "RunInputs",
    "available_cpus",
    "bind_buffer",
    "bind_past",
    "cgroup_quota",
    "checked_threads",
    "common_rows",
    "first_row",
    "int8_products_saturate_here",
    "needs_dummy",
    "onnxruntime_version",
    "open_attention",
    "open_session",
    "own_rows",
    "plain_options",
    "run_with",
    "session_options",
    "split_below",
    "thread_limit",
]
