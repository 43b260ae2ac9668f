"""Runs one system in a process of its own, commanded by lines of JSON on standard input.

    python worker.py prepare SYSTEM CHECKPOINT FOLDER
    python worker.py serve SYSTEM FOLDER THREADS

`prepare` converts a checkpoint. `serve` loads what that wrote, answers {"ready": bytes in memory}, then answers each
{"prompts": ..., "new_tokens": ...} with a Timing. It waits between requests without using the processor, so that
another system can be timed meanwhile.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timing import Prompts, Timing

MODULES = {
    "neort int8": "ours",
    "neort int8-block": "ours",
    "neort int4": "ours",
    "transformers fp32": "torch_based",
    "transformers bf16": "torch_based",
    "torch dynamic int8": "torch_based",
    "optimum int8": "optimum_based",
    "optimum int8, bare onnxruntime": "optimum_based",
    "OpenVINO int8": "openvino_based",
    "OpenVINO int4": "openvino_based",
    "llama.cpp Q8_0": "llama_cpp_based",
    "llama.cpp Q4_0": "llama_cpp_based",
    "CTranslate2 int8": "ctranslate2_based",
    "onnxruntime-genai on neort's int8 bundle": "genai_based",
}


def main() -> None:
    action, system, *arguments = sys.argv[1:]
    module: Any = importlib.import_module(MODULES[system])
    if action == "prepare":
        module.prepare(system, Path(arguments[0]), Path(arguments[1]))
    else:
        serve(module.load(system, Path(arguments[0]), int(arguments[1])))


def serve(measure: Callable[[Prompts, int], Timing]) -> None:
    """Answer on what was standard output; whatever a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        timing = measure(request["prompts"], request["new_tokens"])
        print(json.dumps(dataclasses.asdict(timing)), file=answers, flush=True)


if __name__ == "__main__":
    main()
