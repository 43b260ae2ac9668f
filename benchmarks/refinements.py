"""What does each refinement of int8 buy? An ablation on a checkpoint and on its twin with outlier channels.

    python benchmarks/refinements.py CHECKPOINT TEXT [--tokens 10240]

Writes results/refinements.json: mean KL(torch || graph), p99 and perplexity ratio for each combination.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import onnx_ir as ir

from common import write_results
from neort.backend import DECODER, DecoderSession
from neort.bundle import Bundle
from neort_export.bundle import write_graph, write_manifest, write_tokenizer
from neort_export.checkpoint import Checkpoint
from neort_export.graph import decoder_graph
from neort_export.graph.passes import FoldOutliers, QuantizeEmbedding, QuantizeLinears
from neort_export.graph.passes.quantize_linears import MIDDLE
from neort_export.reference import Reference, calibrate
from neort_export.verification.agreement import chunk_logits, compare
from neort_export.verification.texts import Texts
from outliers import inject_outliers
from quality import parse_args, read_sequences, torch_logits


def run(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / "twin"
        inject_outliers(args.checkpoint, twin)
        measured = {
            args.checkpoint.name: ablate(args, args.checkpoint, Path(folder)),
            f"{args.checkpoint.name} with outliers": ablate(args, twin, Path(folder)),
        }
    return {"text": args.text.name, "tokens": args.tokens, "checkpoints": measured}


def ablate(args: argparse.Namespace, path: Path, folder: Path) -> dict[str, Any]:
    checkpoint = Checkpoint(path)
    reference = Reference(checkpoint)
    bundle = folder / f"bundle-{path.name}"
    bundle.mkdir()
    tokenizer = write_tokenizer(checkpoint, bundle)
    ranges, _ = calibrate(reference, Texts(tokenizer, checkpoint.config).calibration)
    sequences = read_sequences(args, bundle, checkpoint.config.max_position_embeddings)
    expected = list(torch_logits(reference, sequences))
    variants: dict[str, list[ir.passes.InPlacePass]] = {
        "plain": [QuantizeLinears(MIDDLE)],
        "zero point 32 after GELU": [QuantizeLinears(32)],
        "zero point 16 after GELU": [QuantizeLinears(16)],
        "folded": [FoldOutliers(ranges), QuantizeLinears(MIDDLE)],
        "folded, zero point 32": [FoldOutliers(ranges), QuantizeLinears(32)],
        "folded, zero point 16": [FoldOutliers(ranges), QuantizeLinears(16)],
        "folded, zero point 16, int8 embedding": [FoldOutliers(ranges), QuantizeLinears(16), QuantizeEmbedding()],
    }
    rows = {}
    for name, passes in variants.items():
        session = build(checkpoint, bundle, passes)
        rows[name] = compare(expected, chunk_logits(session, sequences), sequences).to_json()
        print(f"{path.name}, {name}: mean KL {rows[name]['mean_kl']:.2e}", flush=True)
    return rows


def build(checkpoint: Checkpoint, bundle: Path, passes: list[ir.passes.InPlacePass]) -> DecoderSession:
    graph = decoder_graph(checkpoint)
    for rewrite in passes:
        rewrite(graph)
    write_graph(graph, bundle, DECODER)
    write_manifest(bundle, checkpoint, {"recipe": {"quantization": "int8"}})
    return DecoderSession(Bundle(bundle))


if __name__ == "__main__":
    write_results("refinements", run(parse_args(__doc__, 10_240)))
