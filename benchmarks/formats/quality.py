"""How close is each format to torch? KL divergence, top-1 agreement and perplexity on a text.

    python -m benchmarks.formats.quality CHECKPOINT TEXT [--tokens 51200]

Exports the checkpoint in every format, runs the text through each bundle and through torch, and writes
results/quality.json. KL is KL(torch || bundle) in nats per token; sequences are as long as the model's context, so
most positions lie past the local layers' window.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from neort.backend import DecoderSession
from neort.bundle import Bundle, Quantization
from neort.kvcache import CacheType
from neort_export import export
from neort_export.checkpoint import Checkpoint
from neort_export.reference import Reference
from neort_export.verification.agreement import chunk_logits, compare

from ..harness.files import folder_bytes
from ..harness.results import write_results
from ..harness.texts import parse_text_args, read_sequences, torch_logits

FORMATS: tuple[Quantization, ...] = ("fp32", "int8", "int8-block", "int4")


def run(args: argparse.Namespace) -> dict[str, Any]:
    checkpoint = Checkpoint(args.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        bundles = {name: Path(folder) / name for name in FORMATS}
        for name in FORMATS:
            print(f"exporting {name}", flush=True)
            export(args.checkpoint, bundles[name], quantization=name)
        sequences = read_sequences(args, bundles["fp32"], checkpoint.config.max_position_embeddings)
        rows: dict[str, Any] = {name: measure(path, Reference(checkpoint), sequences) for name, path in bundles.items()}
        for name in FORMATS[1:]:  # an fp32 bundle has an fp32 cache only
            rows[f"{name}, int8 cache"] = measure(bundles[name], Reference(checkpoint), sequences, "int8")
    return {"checkpoint": args.checkpoint.name, "text": args.text.name, "formats": rows}


def measure(
    path: Path, reference: Reference, sequences: list[list[int]], kv_cache: CacheType = "fp32"
) -> dict[str, Any]:
    """Agreement with torch, and the bundle's bytes."""
    session = DecoderSession(Bundle(path), kv_cache=kv_cache)
    agreement = compare(torch_logits(reference, sequences), chunk_logits(session, sequences), sequences)
    ratio = agreement.perplexity_ratio
    print(f"{path.name}, {kv_cache} cache: mean KL {agreement.mean_kl:.2e}, perplexity ratio {ratio:.5f}", flush=True)
    return {"bytes": folder_bytes(path), **agreement.to_json()}


def main() -> None:
    write_results("quality", run(parse_text_args(__doc__, 51_200)))


if __name__ == "__main__":
    main()
