"""What the installed onnxruntime cannot do, on this processor."""

from __future__ import annotations

from neort.backend import session as loading
from neort.backend.int8_products import int8_products_saturate

KEEPS_INT8_CACHES = loading._version() >= loading.INT8_CACHE_SINCE
CONVERTS_WEIGHTS = loading._version() >= loading.UNSIGNED_WEIGHTS_SINCE
SATURATES = not CONVERTS_WEIGHTS and int8_products_saturate(loading._runner(loading._options(1)))

QUIET = ["-W", "ignore:this processor sums pairs"] if SATURATES else []  # arguments of a Python that loads a model
