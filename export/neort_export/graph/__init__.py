"""The decoder as an ONNX graph: traced, rewritten pass by pass, cut into parts."""

from __future__ import annotations

from .build import decoder_graph, int8_cache_graph, portable_graph, quantize
from .names import INPUT_IDS
from .rewrite import INLINE_BYTES, name_of, nodes
from .segments import Segment, cache_type, cut, keeps_own_rows

__all__ = [
    "INLINE_BYTES",
    "INPUT_IDS",
    "Segment",
    "cache_type",
    "cut",
    "decoder_graph",
    "int8_cache_graph",
    "keeps_own_rows",
    "name_of",
    "nodes",
    "portable_graph",
    "quantize",
]
