"""What is on disk: the bundle's manifest, its files and its graphs' references to them."""

from __future__ import annotations

from . import graph_names
from .bundle import WEIGHTS, Bundle, bundled_path
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
from .graph_facts import check_graph
from .graph_file import external_locations
from .manifest import CHECKSUM, FORMAT_VERSION, MANIFEST, ModelSpec, manifest_checksum, read_spec
from .reading import read_json, sha256_of

__all__ = [
    "BLOCKS_OF_4_BITS",
    "BLOCKS_OF_8_BITS",
    "CHECKSUM",
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
    "check_graph",
    "external_locations",
    "format_of",
    "graph_names",
    "manifest_checksum",
    "read_json",
    "read_spec",
    "sha256_of",
]
