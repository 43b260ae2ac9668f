"""Time, peak memory and size of exports of the published shapes in every format, next to optimum's.

    python benchmarks/exports.py WORK [--shapes gpt-neo-125m ...] [--formats int8 ...] [--no-peers]

Checkpoints with random weights are made in the folder WORK and stay there (17 GB for all shapes); bundles are deleted.
Each export is a fresh process of the command line, once without and once with verification. Peak memory is its
ru_maxrss, which does not count the page cache. Writes results/exports.json, where the rows of other shapes and formats
stay as they were measured before. Runs on Linux and macOS (os.wait4).

Random weights say nothing about quality: the limits of the verification are lifted, and its figures are not recorded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from common import RESULTS, machine_card, write_results
from neort_export.formats import FORMATS
from shapes import make

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
from optimum.onnxruntime import ORTModelForCausalLM, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
checkpoint, out = sys.argv[1:]
ORTModelForCausalLM.from_pretrained(checkpoint, export=True).save_pretrained(out + "/fp32")
config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
ORTQuantizer.from_pretrained(out + "/fp32").quantize(save_dir=out + "/int8", quantization_config=config)
"""


def main() -> None:
    args = parse_args()
    results = earlier()
    for shape in args.shapes:
        checkpoint = args.work / shape
        if not checkpoint.is_dir():
            make(shape, checkpoint, torch.float32)
        size = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
        warm(checkpoint)
        results["alone"][shape] = {
            "checkpoint_bytes": size,
            "imports": in_process("import neort_export.exporter"),
            "imports_and_tracing": in_process(TRACING, str(checkpoint)),
        }
        for name in args.formats:
            row = {"shape": shape, "format": name, **neort(checkpoint, args.work / "bundle", name)}
            replace(results["exports"], row, "format")
        if not args.no_peers:
            row = {"shape": shape, "peer": "optimum", **optimum(shape, size, args.work, results)}
            replace(results["peers"], row, "peer")
        write_results("exports", results)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for checkpoints and bundles")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--no-peers", action="store_true", help="leave out optimum")
    return parser.parse_args()


def earlier() -> dict[str, Any]:
    """The results so far, the machine card apart."""
    file = RESULTS / "exports.json"
    if not file.exists():
        return {"alone": {}, "exports": [], "peers": []}
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    results.pop("machine")
    return results


def replace(rows: list[dict[str, Any]], row: dict[str, Any], name: str) -> None:
    """Put a row in the place of the one for the same shape and format or peer, or at the end; print it."""
    print(row, flush=True)
    for i, other in enumerate(rows):
        if (other["shape"], other[name]) == (row["shape"], row[name]):
            rows[i] = row
            return
    rows.append(row)


def warm(checkpoint: Path) -> None:
    """Read the checkpoint once, so that the first export finds as much of it in the page cache as the others."""
    for file in checkpoint.glob("*.safetensors"):
        with file.open("rb", buffering=0) as stream:
            while stream.read(1 << 24):
                pass


def neort(checkpoint: Path, bundle: Path, name: str) -> dict[str, Any]:
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
    process = subprocess.Popen([sys.executable, *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"ended with status {process.returncode} after {seconds:.0f} s")
    return {"seconds": round(seconds, 1), "peak_bytes": usage.ru_maxrss * KIB}


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
