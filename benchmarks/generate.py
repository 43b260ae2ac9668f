"""Prefill and decode rates of neort and of every other system on the same model, pair by pair.

    python benchmarks/generate.py WORK [--shape gpt-neo-1.3b] [--systems ...] [--prompts 32 512 1536] [--batches 1 4 8]

Each system has a process and a virtual environment of its own (`systems/requirements`; made in WORK at the first run,
as are the checkpoint with random weights and its conversions). neort's process stays; each other system is loaded
beside it, and the two are timed in turns, so that every ratio comes from one stretch of time. The machine's limits are
measured before and after each system (`roofline.py`). A system that cannot be made or run is recorded with its error.

Writes results/generate-SHAPE.json: raw seconds of every round, and medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import roofline
from common import write_results
from neort.threads import available_cpus
from shapes import make

SYSTEMS = Path(__file__).parent / "systems"
OURS = ("neort int8", "neort int4", "neort int8-block")
RIVALS = {  # name: (virtual environment, the neort format it is compared with)
    "transformers fp32": ("torch", "neort int8"),
    "transformers bf16": ("torch", "neort int8"),
    "torch dynamic int8": ("torch", "neort int8"),
    "optimum int8": ("optimum", "neort int8"),
    "optimum int8, bare onnxruntime": ("optimum", "neort int8"),
    "OpenVINO int8": ("openvino", "neort int8"),
    "OpenVINO int4": ("openvino", "neort int4"),
    "llama.cpp Q8_0": ("llama_cpp", "neort int8"),
    "llama.cpp Q4_0": ("llama_cpp", "neort int4"),
    "CTranslate2 int8": ("ctranslate2", "neort int8"),
    "onnxruntime-genai on neort's int8 bundle": ("genai", "neort int8"),
}


def main() -> None:
    args = parse_args()
    checkpoint = args.work / args.shape
    if not checkpoint.exists():
        make(args.shape, checkpoint)
    results: dict[str, Any] = {
        "shape": args.shape, "threads": args.threads, "new_tokens": args.tokens, "rounds": args.rounds, "pairs": {},
    }  # fmt: skip
    for rival in args.systems:
        results["pairs"][rival] = pair(args, checkpoint, rival)
        write_results(f"generate-{args.shape}", results)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for checkpoints, conversions and virtual environments")
    parser.add_argument("--shape", default="gpt-neo-1.3b")
    parser.add_argument("--systems", nargs="+", choices=list(RIVALS), default=list(RIVALS))
    parser.add_argument("--prompts", type=int, nargs="+", default=[32, 512, 1536], help="tokens of each prompt")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8], help="sequences at once")
    parser.add_argument("--tokens", type=int, default=24, help="new tokens of each sequence")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available_cpus())
    return parser.parse_args()


def pair(args: argparse.Namespace, checkpoint: Path, rival: str) -> dict[str, Any]:
    """One system against the neort format of its kind, cell by cell, in turns."""
    environment, ours = RIVALS[rival]
    facts: dict[str, Any] = {"against": ours, "limits_before": asdict(roofline.measure(args.threads))}
    try:
        with (
            Worker(ours, Path(sys.executable), checkpoint, args.threads) as mine,
            Worker(rival, interpreter(args.work, environment), checkpoint, args.threads) as theirs,
        ):
            facts["cells"] = [
                cell(args, {ours: mine, rival: theirs}, prompt, batch)
                for batch in args.batches
                for prompt in args.prompts
            ]
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        return {**facts, "skipped": str(error)}
    return {**facts, "limits_after": asdict(roofline.measure(args.threads))}


def cell(args: argparse.Namespace, workers: dict[str, Worker], prompt: int, batch: int) -> dict[str, Any]:
    """Raw and median seconds of both systems for one prompt length and batch size."""
    random = np.random.default_rng(prompt)
    prompts = random.integers(0, 50257, (batch, prompt)).tolist()
    raw: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for i in range(args.rounds + 1):
        for name, worker in workers.items():
            timing = worker.measure(prompts, args.tokens)
            if i:  # the first round warms up
                raw[name].append(timing)
    medians = {
        name: {
            "prefill_tokens_per_second": batch * prompt / statistics.median(t["prefill_seconds"] for t in timings),
            "decode_tokens_per_second": batch / statistics.median(s for t in timings for s in t["step_seconds"]),
        }
        for name, timings in raw.items()
    }
    print(prompt, batch, json.dumps(medians), flush=True)
    return {"prompt_tokens": prompt, "batch": batch, "medians": medians, "raw": raw}


class Worker:
    """A system in a process of its own; see systems/worker.py."""

    def __init__(self, system: str, python: Path, checkpoint: Path, threads: int) -> None:
        folder = checkpoint.with_name(f"{checkpoint.name}-prepared") / system.replace(" ", "-").replace(",", "")
        if not folder.exists():
            run_worker(python, "prepare", system, checkpoint, folder)
        command = [python, SYSTEMS / "worker.py", "serve", system, folder, str(threads)]
        self.system = system
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(threads)
        )
        self._answer()

    def measure(self, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"prompts": prompts, "new_tokens": new_tokens}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.system} ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def run_worker(python: Path, *arguments: object) -> None:
    subprocess.run([python, SYSTEMS / "worker.py", *map(str, arguments)], check=True)


def interpreter(work: Path, environment: str) -> Path:
    """The Python of a virtual environment with a system's packages, made when it is missing."""
    folder = work / "environments" / environment
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        requirements = SYSTEMS / "requirements" / f"{environment}.txt"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        done.touch()
    return python


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}


if __name__ == "__main__":
    main()
