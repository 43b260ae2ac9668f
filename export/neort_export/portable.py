"""The files with which other programs load a bundle: model.onnx and genai_config.json."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from neort.session import DECODER

from .checkpoint import Checkpoint
from .genai import genai_config
from .graphs import portable_graph
from .manifest import write_json

__all__ = ["GENAI_CONFIG", "PORTABLE", "write_portable"]

PORTABLE = "model.onnx"
GENAI_CONFIG = "genai_config.json"


def write_portable(source: Checkpoint, folder: Path) -> None:
    """Write both beside the decoder.onnx of ``folder``; model.onnx reads the same places of weights.data."""
    decoder = ir.load(folder / DECODER)  # its weights stay in their file: no tensor is read or written here
    ir.save(portable_graph(decoder), folder / PORTABLE)
    write_json(folder / GENAI_CONFIG, genai_config(source.config, PORTABLE))
