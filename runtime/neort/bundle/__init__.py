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
from .graph_facts import check_graph, keeps_own_rows
from .graph_file import Graph, Node, Tensor, external_locations, read_graph
from .manifest import (
    CHECKSUM,
    FORMAT_VERSION,
    MANIFEST,
    PROMPTS_TOGETHER,
    ModelSpec,
    check_manifest,
    manifest_checksum,
    read_spec,
)
from .protobuf import message_field
from .reading import LARGEST_MANIFEST, MissingBundleError, parsed_json, read_json, sha256_of

__all__ = [
    "BLOCKS_OF_4_BITS",
    "BLOCKS_OF_8_BITS",
    "CHECKSUM",
    "FORMATS",
    "FORMAT_VERSION",
    "LARGEST_MANIFEST",
    "MANIFEST",
    "PROMPTS_TOGETHER",
    "WEIGHTS",
    "BlockFormat",
    "Bundle",
    "Cost",
    "Format",
    "Graph",
    "MissingBundleError",
    "ModelSpec",
    "Node",
    "Quantization",
    "RowFormat",
    "Tensor",
    "bundled_path",
    "check_graph",
    "check_manifest",
    "external_locations",
    "format_of",
    "graph_names",
    "keeps_own_rows",
    "manifest_checksum",
    "message_field",
    "parsed_json",
    "read_graph",
    "read_json",
    "read_spec",
    "sha256_of",
]
