"""Runs one system in a process of its own, commanded by lines of JSON on standard input.

    python -m benchmarks.peers.worker prepare SYSTEM CHECKPOINT FOLDER
    python -m benchmarks.peers.worker serve SYSTEM FOLDER THREADS

`prepare` converts a checkpoint. `serve` loads what that wrote and says {"load_seconds": imports included}; then it
answers each {"prompts": ..., "new_tokens": ...} with a Timing, and "libraries" with their versions. It waits between
requests without using the CPU, so that another system can be timed meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ..harness.arguments import script_parser
from .catalog import SYSTEMS

LIBRARIES = (
    "neort", "onnxruntime", "torch", "transformers", "optimum", "optimum-onnx", "optimum-intel", "openvino", "nncf",
    "llama-cpp-python", "ctranslate2", "onnxruntime-genai",
)  # fmt: skip


def main() -> None:
    args = parse_args()
    module: Any = importlib.import_module(f".adapters.{SYSTEMS[args.system].module}", __package__)
    if args.action == "prepare":
        give_way()
        module.prepare(args.system, args.checkpoint, args.folder)
    else:
        serve(module, args.system, args.folder, args.threads)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    prepare, serving = actions.add_parser("prepare"), actions.add_parser("serve")
    for action in (prepare, serving):
        action.add_argument("system", choices=list(SYSTEMS))
    prepare.add_argument("checkpoint", type=Path)
    for action in (prepare, serving):
        action.add_argument("folder", type=Path)
    serving.add_argument("threads", type=int)
    return parser.parse_args()


def give_way() -> None:
    """Let Linux end this process first where a conversion needs more memory than there is."""
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("1000", encoding="ascii")


def serve(module: Any, system: str, folder: Path, threads: int) -> None:
    """Answer on what was standard output; whatever a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    began = time.perf_counter()
    measure = module.load(system, folder, threads)
    print(json.dumps({"load_seconds": time.perf_counter() - began}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = versions() if request == "libraries" else dataclasses.asdict(measure(**request))
        print(json.dumps(answer), file=answers, flush=True)


def versions() -> dict[str, str]:
    """What is installed of the libraries that matter."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
