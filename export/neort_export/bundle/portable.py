"""The files with which other programs load a bundle: model.onnx and genai_config.json."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from neort.backend import DECODER

from ..checkpoint import Checkpoint, read_object
from ..graph import portable_graph
from .genai import genai_config
from .manifest import write_json

__all__ = ["GENAI_CONFIG", "PORTABLE", "write_portable"]

PORTABLE = "model.onnx"
GENAI_CONFIG = "genai_config.json"


def write_portable(source: Checkpoint, folder: Path) -> None:
    """Write both into ``folder``, beside its decoder.onnx, whose places in weights.data model.onnx reads too."""
    decoder = ir.load(folder / DECODER)  # weights stay in their file: no tensor is read or written here
    ir.save(portable_graph(decoder), folder / PORTABLE)
    generation = read_object(folder / "generation_config.json")
    write_json(folder / GENAI_CONFIG, genai_config(source.config, generation, PORTABLE))
