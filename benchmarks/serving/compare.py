"""How do neort and llama.cpp's server do under the same load, with 1 to 64 clients?

    python -m benchmarks.serving.compare BUNDLE GGUF --server LLAMA_SERVER --name gpt-neo-125m
        [--clients 1 4 16 32 64] [--slots 64] [--rounds 3] [--vllm VLLM --gpt2 CHECKPOINT]

BUNDLE is an int8 bundle, GGUF the same checkpoint in GPT-2's layout and Q8_0 (`python -m benchmarks.peers.worker
prepare "llama.cpp Q8_0" CHECKPOINT FOLDER`), LLAMA_SERVER the binary of llama.cpp's tools/server. VLLM is the command
of vLLM for CPUs in an environment of its own (peers/requirements/vllm.txt), CHECKPOINT the GPT-2 of the same shape
(`python -m benchmarks.checkpoints.shapes gpt2`), which it serves in float32. All servers have the same number of slots
and threads. Only one of them runs at a time, since each would take the others' memory and CPUs: in every round each is
started, warmed up, and asked by 1, 4, 16 ... clients in a closed loop; who goes first alternates.

Prompts are random token ids, other ones in every cell and round, so that nobody answers from what he kept; prompts and
answers have mixed lengths, the same for all. Tokens are chosen greedily and go on beyond the end of text, so all do
the same work. Metric: tokens per second of all clients, and the percentiles of TTFT, TPOT and ITL.

Writes results/serving-NAME.json after each round: every round's figures, and the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from neort.backend import available_cpus

from ..harness.arguments import script_parser
from ..harness.results import write_results
from .load import closed_loop, summary
from .servers import VLLM_ENVIRONMENT, Server, llama_command, neort_command, vllm_command
from .workload import Lengths, of_ids

OURS, THEIRS, VLLM = "neort int8", "llama.cpp Q8_0", "vLLM float32"
TIMES = ("ttft_milliseconds", "tpot_milliseconds", "itl_milliseconds", "e2e_milliseconds")
FEWEST = 8  # requests of a cell


def main() -> None:
    args = parse_args()
    systems = [OURS, THEIRS, *([VLLM] if args.vllm else [])]
    results: dict[str, Any] = {
        "name": args.name, "slots": args.slots, "threads": args.threads, "rounds": args.rounds,
        "prompt_tokens": args.prompt, "answer_tokens": args.answer, "requests_per_client": args.requests,
        "raw": {system: [] for system in systems},
    }  # fmt: skip
    for i in range(args.rounds):
        for system in systems[:: -1 if i % 2 else 1]:
            results["raw"][system].append(measure(system, args, i))
        results["medians"] = {name: medians(rounds) for name, rounds in results["raw"].items()}
        write_results(f"serving-{args.name}", results)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--server", type=Path, required=True, help="the binary llama-server")
    parser.add_argument("--vllm", type=Path, help="the command vllm")
    parser.add_argument("--gpt2", type=Path, help="with --vllm: the checkpoint that it serves")
    parser.add_argument("--name", required=True, help="of the shape; results/serving-NAME.json is written")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 32, 64])
    parser.add_argument("--slots", type=int, default=64, help="sequences at once, of both servers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=3, help=f"of each client; at least {FEWEST} of all")
    parser.add_argument("--prompt", type=int, nargs=2, default=[16, 256], help="tokens of prompts: least, most")
    parser.add_argument("--answer", type=int, nargs=2, default=[16, 128], help="tokens of answers: least, most")
    parser.add_argument("--context", type=int, default=512, help="tokens of a slot of llama.cpp's server")
    parser.add_argument("--vocabulary", type=int, default=50256, help="token ids of prompts are below")
    parser.add_argument("--threads", type=int, default=available_cpus())
    return parser.parse_args()


def measure(system: str, args: argparse.Namespace, round_number: int) -> dict[str, Any]:
    """One server's figures for every number of clients."""
    cells = {}
    with TemporaryDirectory() as folder, Server(*started(system, args), log=Path(folder, "log")) as server:
        load(server, args, max(args.clients), 1 << 20, requests=1)  # warms up
        for clients in args.clients:
            cells[str(clients)] = load(server, args, clients, 1000 * round_number + clients, args.requests)
            print(system, clients, json.dumps(cells[str(clients)]), flush=True)
        held = server.held()
    return {"start_seconds": round(server.start_seconds, 2), "resident_mb": held.resident_mb, "cells": cells}


def started(system: str, args: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """The command of a server, and its environment."""
    if system == OURS:
        return neort_command(args.bundle, ["--max-batch-size", str(args.slots), "--num-threads", str(args.threads)]), {}
    if system == THEIRS:
        return llama_command(args.server, args.gguf, args.slots, args.context, args.threads), {}
    cpus = {"VLLM_CPU_OMP_THREADS_BIND": f"0-{args.threads - 1}"}
    return vllm_command(args.vllm, args.gpt2, args.slots, args.context), VLLM_ENVIRONMENT | cpus


def load(server: Server, args: argparse.Namespace, clients: int, seed: int, requests: int) -> dict[str, Any]:
    """One cell. Raises RuntimeError where an answer is not what was asked for: the figures would mean nothing."""
    count = max(FEWEST, requests * clients)
    lengths = Lengths(tuple(args.prompt), tuple(args.answer))
    options = {"temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True}}
    asked = of_ids(seed, count, lengths, args.vocabulary, **options)
    found = asyncio.run(closed_loop(server.address, asked, clients))
    for each in found:
        wanted = each.asked.body["max_tokens"] if isinstance(each.asked.body, dict) else 0
        got = (each.usage or {}).get("completion_tokens", len(each.times))
        if not each.as_expected or got != wanted:
            raise RuntimeError(f"{server.command[0]} gave {got} of {wanted} tokens, status {each.status}: "
                               f"{each.failure} {each.body[:200]!r}")  # fmt: skip
    figures = summary(found)
    tokens = sum((each.usage or {}).get("completion_tokens", len(each.times)) for each in found)
    return figures | {"tokens": tokens, "tokens_per_second": round(tokens / figures["seconds"], 2)}


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Over the rounds, for every number of clients."""

    def median(cells: list[dict[str, Any]]) -> dict[str, Any]:
        times = {
            name: {rank: round(statistics.median(cell[name][rank] for cell in cells), 2) for rank in cells[0][name]}
            for name in TIMES
        }
        return {"tokens_per_second": round(statistics.median(cell["tokens_per_second"] for cell in cells), 2), **times}

    return {count: median([each["cells"][count] for each in rounds]) for count in rounds[0]["cells"]}


if __name__ == "__main__":
    main()
