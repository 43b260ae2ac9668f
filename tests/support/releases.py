"""What the installed onnxruntime cannot do, on this processor."""

from __future__ import annotations

from neort.backend import (
    INT8_CACHE_SINCE,
    UNSIGNED_WEIGHTS_SINCE,
    int8_products_saturate_here,
    onnxruntime_version,
)

KEEPS_INT8_CACHES = onnxruntime_version() >= INT8_CACHE_SINCE
CONVERTS_WEIGHTS = onnxruntime_version() >= UNSIGNED_WEIGHTS_SINCE
SATURATES = not CONVERTS_WEIGHTS and int8_products_saturate_here()

QUIET = ["-W", "ignore:this processor sums pairs"] if SATURATES else []  # arguments of a Python that loads a model
