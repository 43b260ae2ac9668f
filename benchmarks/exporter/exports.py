"""Time, peak memory and size of exports of the published shapes in every format, next to optimum's.

    python -m benchmarks.exporter.exports WORK [--shapes gpt-neo-125m ...] [--formats int8 ...] [--no-peers]

Checkpoints with random weights are made in the folder WORK and stay there (17 GB for all shapes); bundles are deleted.
Each export is a fresh process of the command line, once without and once with verification. Peak memory is its
ru_maxrss, which does not count the page cache. Writes results/exports.json, where the rows of other shapes and formats
stay as they were measured before on the same machine. Runs on Linux and macOS (os.wait4).

Random weights say nothing about quality: the limits of the verification are lifted, and its figures are not recorded.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neort.bundle import FORMATS

from ..checkpoints.shapes import make_shape
from ..harness.arguments import script_parser
from ..harness.files import ROOT, folder_bytes, read_through
from ..harness.machine_card import machine_card
from ..harness.results import earlier_results, write_results

SHAPES = ("gpt-neo-125m", "gpt-neo-1.3b", "gpt-neo-2.7b")
PEER_SHAPES = {"gpt-neo-2.7b": "gpt-neo-1.3b"}  # what tells beforehand whether a peer's export fits
NO_LIMITS = ("--max-abs-diff", "inf", "--max-mean-kl", "inf", "--max-perplexity-ratio", "inf")
KIB = 1024 if sys.platform == "linux" else 1  # ru_maxrss counts KiB on Linux, bytes on macOS

TRACING = """
import sys
from neort_export.checkpoint import Checkpoint
from neort_export.graph.build import decoder_graph
decoder_graph(Checkpoint(sys.argv[1]))
"""
OPTIMUM = """
import sys
from optimum.onnxruntime import ORTModelForCausalLM
from benchmarks.peers.adapters.optimum_based import quantize
checkpoint, out = sys.argv[1:]
ORTModelForCausalLM.from_pretrained(checkpoint, export=True).save_pretrained(out + "/fp32")
quantize(out + "/fp32", out + "/int8")
"""


def main() -> None:
    args = parse_args()
    results = earlier_results("exports") or {"alone": {}, "exports": [], "peers": []}
    work = args.work.resolve()
    for shape in args.shapes:
        checkpoint = work / shape
        if not checkpoint.is_dir():
            make_shape(shape, checkpoint)
        weights = list(checkpoint.glob("*.safetensors"))
        size = sum(file.stat().st_size for file in weights)
        for file in weights:  # so that the first export finds as much of it in the page cache as the others
            read_through(file)
        results["alone"][shape] = {
            "checkpoint_bytes": size,
            "imports": in_process("import neort_export.exporter"),
            "imports_and_tracing": in_process(TRACING, str(checkpoint)),
        }
        for name in args.formats:
            row = {"shape": shape, "format": name, **export_twice(checkpoint, work / "bundle", name)}
            replace(results["exports"], row, "format")
        if not args.no_peers:
            row = {"shape": shape, "peer": "optimum", **optimum(shape, size, work, results)}
            replace(results["peers"], row, "peer")
        write_results("exports", results)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("work", type=Path, help="folder for checkpoints and bundles")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--no-peers", action="store_true", help="leave out optimum")
    return parser.parse_args()


def replace(rows: list[dict[str, Any]], row: dict[str, Any], name: str) -> None:
    """Put a row in the place of the one for the same shape and format or peer, or at the end; print it."""
    print(row, flush=True)
    for i, other in enumerate(rows):
        if (other["shape"], other[name]) == (row["shape"], row[name]):
            rows[i] = row
            return
    rows.append(row)


def export_twice(checkpoint: Path, bundle: Path, name: str) -> dict[str, Any]:
    """Two exports by the command line, without and with verification."""
    command = ["-m", "neort_export.cli", str(checkpoint), "-o", str(bundle), "--quantization", name, *NO_LIMITS]
    unverified = run([*command, "--no-verify"])
    shutil.rmtree(bundle)
    verified = run(command)
    size = folder_bytes(bundle)
    shutil.rmtree(bundle)
    return {
        "seconds": unverified["seconds"],
        "seconds_with_verification": verified["seconds"],
        "peak_bytes": max(unverified["peak_bytes"], verified["peak_bytes"]),
        "bytes": size,
    }


def optimum(shape: str, size: int, work: Path, results: dict[str, Any]) -> dict[str, Any]:
    """optimum's export and its dynamic int8; or why it cannot run."""
    if importlib.util.find_spec("optimum") is None:
        return {"skipped": "optimum-onnx is not installed"}
    smaller = PEER_SHAPES.get(shape)
    memory = (machine_card()["memory_gb"] or 0) * 1e9
    for row in results["peers"]:
        if row["shape"] == smaller and "peak_bytes" in row:
            expected = row["peak_bytes"] * size / results["alone"][smaller]["checkpoint_bytes"]
            if expected > memory:
                return {"skipped": f"would take {expected / 1e9:.0f} GB of memory, as {smaller} tells"}
    out = work / "optimum"
    try:
        measured = run(["-c", OPTIMUM, str(work / shape), str(out)])
        return {**measured, "bytes": folder_bytes(out / "int8")}
    except RuntimeError as error:
        return {"skipped": str(error)}
    finally:
        shutil.rmtree(out, ignore_errors=True)


def in_process(code: str, *arguments: str) -> int:
    """Peak memory of a few lines of Python, in bytes."""
    peak: int = run(["-c", code, *arguments])["peak_bytes"]
    return peak


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Seconds and peak bytes of a Python process. Raises RuntimeError for a failure."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"ended with status {process.returncode} after {seconds:.0f} s")
    return {"seconds": round(seconds, 1), "peak_bytes": usage.ru_maxrss * KIB}


if __name__ == "__main__":
    main()
