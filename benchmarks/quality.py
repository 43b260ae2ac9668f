"""How close is each format to torch? KL divergence, top-1 agreement and perplexity on a text.

    python benchmarks/quality.py CHECKPOINT TEXT [--tokens 51200]

Exports the checkpoint in every format, runs the text through each bundle and through torch, and writes
results/quality.json. KL is KL(torch || bundle) in nats per token; sequences are as long as the model's context, so
most positions lie past the local layers' window.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import write_results
from neort.backend import DecoderSession
from neort.bundle import Bundle
from neort.kvcache import CacheType
from neort.tokenizer import Tokenizer
from neort_export import export
from neort_export.checkpoint import Checkpoint
from neort_export.reference import Reference
from neort_export.verification.agreement import chunk_logits, compare

FORMATS = ("fp32", "int8", "int8-block", "int4")


def parse_args(description: str | None, tokens: int) -> argparse.Namespace:
    """CHECKPOINT, TEXT and --tokens, the arguments of all scripts that measure quality."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("text", type=Path, help="UTF-8 text that the model was not trained on")
    parser.add_argument("--tokens", type=int, default=tokens)
    return parser.parse_args()


def run(args: argparse.Namespace) -> dict[str, Any]:
    checkpoint = Checkpoint(args.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        bundles = {name: Path(folder) / name for name in FORMATS}
        for name, path in bundles.items():
            print(f"exporting {name}", flush=True)
            export(args.checkpoint, path, quantization=name)
        sequences = read_sequences(args, bundles["fp32"], checkpoint.config.max_position_embeddings)
        rows = {name: measure(path, Reference(checkpoint), sequences) for name, path in bundles.items()}
        for name in FORMATS[1:]:  # an fp32 bundle has an fp32 cache only
            rows[f"{name}, int8 cache"] = measure(bundles[name], Reference(checkpoint), sequences, "int8")
    return {"checkpoint": args.checkpoint.name, "text": args.text.name, "formats": rows}


def read_sequences(args: argparse.Namespace, bundle: Path, length: int) -> list[list[int]]:
    """Consecutive sequences of ``length`` tokens from the start of the text."""
    ids = Tokenizer.from_file(bundle / "tokenizer.json").encode(args.text.read_text(encoding="utf-8"))[: args.tokens]
    return [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]


def measure(
    path: Path, reference: Reference, sequences: list[list[int]], kv_cache: CacheType = "fp32"
) -> dict[str, Any]:
    session = DecoderSession(Bundle(path), kv_cache=kv_cache)
    agreement = compare(torch_logits(reference, sequences), chunk_logits(session, sequences), sequences)
    size = sum(file.stat().st_size for file in path.iterdir())
    ratio = agreement.perplexity_ratio
    print(f"{path.name}, {kv_cache} cache: mean KL {agreement.mean_kl:.2e}, perplexity ratio {ratio:.5f}", flush=True)
    return {"bytes": size, **agreement.to_json()}


def torch_logits(reference: Reference, sequences: list[list[int]]) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    """torch's logits sequence by sequence, so that the logits of the whole text need not fit in memory."""
    for ids in sequences:
        yield reference.logits([ids])[0]


if __name__ == "__main__":
    write_results("quality", run(parse_args(__doc__, 51_200)))
