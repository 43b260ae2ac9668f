"""Runs one system in a process of its own, commanded by lines of JSON on standard input.

    python -m benchmarks.peers.worker prepare SYSTEM CHECKPOINT FOLDER
    python -m benchmarks.peers.worker serve SYSTEM FOLDER THREADS

`prepare` converts a checkpoint. `serve` loads what that wrote and says {"load_seconds": imports included}; then it
answers each {"prompts": ..., "new_tokens": ...} with a Timing, and "libraries" with their versions. It waits between
requests without using the CPU, so that another system can be timed meanwhile.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from .catalog import SYSTEMS

LIBRARIES = (
    "neort", "onnxruntime", "torch", "transformers", "optimum", "optimum-onnx", "optimum-intel", "openvino", "nncf",
    "llama-cpp-python", "ctranslate2", "onnxruntime-genai",
)  # fmt: skip


def main() -> None:
    action, system, *arguments = sys.argv[1:]
    module: Any = importlib.import_module(f".adapters.{SYSTEMS[system].module}", __package__)
    if action == "prepare":
        give_way()
        module.prepare(system, Path(arguments[0]), Path(arguments[1]))
    else:
        serve(module, system, Path(arguments[0]), int(arguments[1]))


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
