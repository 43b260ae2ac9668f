"""What do channels far from zero cost each format? A checkpoint and twins of the same function that have such channels.

    python -m benchmarks.formats.far_channels CHECKPOINT TEXT [--tokens 10240]

Before every c_fc three channels get a mean of 0, 10, 30, 100, 1000 at a deviation of 1. Writes
results/far_channels.json: mean KL(torch || bundle), p99 and perplexity ratio, and the error of logits as a share of
their own deviation.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neort.backend import DecoderSession
from neort.bundle import Bundle
from neort_export import export
from neort_export.checkpoint import Checkpoint
from neort_export.reference import Reference
from neort_export.verification.agreement import chunk_logits, compare

from ..checkpoints.outliers import make_twin, with_far_channels
from ..harness.results import write_results
from ..harness.texts import parse_text_args, read_sequences, torch_logits
from .quality import FORMATS

Floats = NDArray[np.float32]

MEANS = (0, 10, 30, 100, 1000)


def run(args: argparse.Namespace) -> dict[str, Any]:
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for mean in MEANS:
            far = functools.partial(with_far_channels, mean=mean)
            twin = make_twin(args.checkpoint, Path(folder) / f"mean-{mean}", far)
            measured[f"mean {mean}"] = measure(args, twin)
    facts = {"checkpoint": args.checkpoint.name, "text": args.text.name, "tokens": args.tokens}
    return {**facts, "channels": measured}


def measure(args: argparse.Namespace, twin: Path) -> dict[str, Any]:
    """The figures of each format, by its name."""
    checkpoint = Checkpoint(twin)
    bundles = {name: twin / name for name in FORMATS}
    for name in FORMATS:
        export(twin, bundles[name], quantization=name, verify=False)
    sequences = read_sequences(args, bundles["fp32"], checkpoint.config.max_position_embeddings)
    expected = list(torch_logits(Reference(checkpoint), sequences))
    sessions = {name: DecoderSession(Bundle(bundle)) for name, bundle in bundles.items()}
    return {name: compared(f"{twin.name}, {name}", s, expected, sequences) for name, s in sessions.items()}


def compared(name: str, session: DecoderSession, expected: list[Floats], sequences: list[list[int]]) -> dict[str, Any]:
    """A session's agreement with torch's logits, and its error of logits."""
    logits = [np.concatenate(list(chunk_logits(session, [ids]))) for ids in sequences]
    agreement = compare(expected, logits, sequences).to_json()
    error = float(np.std(np.concatenate(logits) - np.concatenate(expected)) / np.std(np.concatenate(expected)))
    print(f"{name}: mean KL {agreement['mean_kl']:.2e}, relative error of logits {error:.4f}", flush=True)
    return {**agreement, "relative_error": error}


def main() -> None:
    write_results("far_channels", run(parse_text_args(__doc__, 10_240)))


if __name__ == "__main__":
    main()
