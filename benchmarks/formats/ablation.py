"""What a refinement buys is measured by leaving it out: variants of a format on one checkpoint and one text.

Knows how a variant's graph is built and compared with torch; knows nothing about the variants.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir

from neort.backend import DECODER, DecoderSession
from neort.bundle import Bundle
from neort_export.bundle import write_configs, write_graph, write_manifest, write_tokenizer
from neort_export.checkpoint import Checkpoint
from neort_export.graph import decoder_graph
from neort_export.reference import Reference
from neort_export.verification.agreement import chunk_logits, compare
from neort_export.verification.texts import Texts

from ..checkpoints.outliers import make_twin, with_outliers
from ..harness.texts import read_sequences, torch_logits

__all__ = ["Ablation", "on_twins"]

Passes = list[ir.passes.InPlacePass]
Rows = dict[str, dict[str, Any]]


class Ablation:
    """A checkpoint, torch's logits of the text, and a bundle folder in which one variant after the other is built."""

    def __init__(self, args: argparse.Namespace, path: Path, folder: Path) -> None:
        self.checkpoint = Checkpoint(path)
        self.reference = Reference(self.checkpoint)
        self.folder = folder / f"bundle-{path.name}"
        self.folder.mkdir()
        write_configs(self.checkpoint, self.folder)
        tokenizer = write_tokenizer(self.checkpoint, self.folder)
        self.calibration = Texts(tokenizer, self.checkpoint.config).calibration
        self.sequences = read_sequences(args, self.folder, self.checkpoint.config.max_position_embeddings)
        self.expected = list(torch_logits(self.reference, self.sequences))

    def measure(self, name: str, passes: Passes) -> dict[str, Any]:
        """How far the graph is from torch after these passes."""
        session = self._build(passes)
        row = compare(self.expected, chunk_logits(session, self.sequences), self.sequences).to_json()
        print(f"{self.checkpoint.path.name}, {name}: mean KL {row['mean_kl']:.2e}", flush=True)
        return row

    def _build(self, passes: Passes) -> DecoderSession:
        graph = decoder_graph(self.checkpoint)
        for rewrite in passes:
            rewrite(graph)
        write_graph(graph, self.folder, DECODER)
        write_manifest(self.folder, self.checkpoint, {"recipe": {"quantization": "int8"}})
        return DecoderSession(Bundle(self.folder))


def on_twins(args: argparse.Namespace, ablate: Callable[[Ablation], Rows]) -> dict[str, Any]:
    """An ablation on the checkpoint, and on its twin with outlier channels."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {
            args.checkpoint.name: args.checkpoint,
            f"{args.checkpoint.name} with outliers": make_twin(args.checkpoint, folder / "twin", with_outliers),
        }
        measured = {label: ablate(Ablation(args, path, folder)) for label, path in paths.items()}
    return {"text": args.text.name, "tokens": args.tokens, "checkpoints": measured}
