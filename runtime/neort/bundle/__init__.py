"""What is on disk: the bundle's manifest, its files and its graphs' references to them."""

from __future__ import annotations

from . import graph_names
from .bundle import FORMAT_VERSION, MANIFEST, WEIGHTS, Bundle, ModelSpec, bundled_path, read_json, read_spec, sha256_of
from .formats import (
    BLOCKS_OF_4_BITS,
    BLOCKS_OF_8_BITS,
    FORMATS,
    BlockFormat,
    Cost,
    Format,
    Quantization,
    RowFormat,
    format_of,
)
from .graph_file import external_locations

__all__ = [
    "BLOCKS_OF_4_BITS",
    "BLOCKS_OF_8_BITS",
    "FORMATS",
    "FORMAT_VERSION",
    "MANIFEST",
    "WEIGHTS",
    "BlockFormat",
    "Bundle",
    "Cost",
    "Format",
    "ModelSpec",
    "Quantization",
    "RowFormat",
    "bundled_path",
    "external_locations",
    "format_of",
    "graph_names",
    "read_json",
    "read_spec",
    "sha256_of",
]
