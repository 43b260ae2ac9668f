"""How do neort and llama.cpp's server do under the same load, with 1 to 64 clients?

    python -m benchmarks.serving.compare BUNDLE GGUF --server LLAMA_SERVER --name gpt-neo-125m
        [--clients 1 4 16 32 64] [--slots 64] [--rounds 3]

BUNDLE is an int8 bundle, GGUF the same checkpoint in GPT-2's layout and Q8_0 (`python -m benchmarks.peers.worker
prepare "llama.cpp Q8_0" CHECKPOINT FOLDER`), LLAMA_SERVER the binary of llama.cpp's tools/server. Both servers have the
same number of slots and threads. Only one of them runs at a time, since either would take the other's memory and
CPUs: in every round each is started, warmed up, and asked by 1, 4, 16 ... clients in a closed loop; who goes first
alternates.

Prompts are random token ids, other ones in every cell and round, so that nobody answers from what he kept; prompts and
answers have mixed lengths, the same for both. Tokens are chosen greedily and go on beyond the end of text, so both do
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
from .servers import Server, llama_command, neort_command
from .workload import Lengths, of_ids

OURS, THEIRS = "neort int8", "llama.cpp Q8_0"
TIMES = ("ttft_milliseconds", "tpot_milliseconds", "itl_milliseconds", "e2e_milliseconds")
FEWEST = 8  # requests of a cell


def main() -> None:
    args = parse_args()
    results: dict[str, Any] = {
        "name": args.name, "slots": args.slots, "threads": args.threads, "rounds": args.rounds,
        "prompt_tokens": args.prompt, "answer_tokens": args.answer, "requests_per_client": args.requests,
        "raw": {OURS: [], THEIRS: []},
    }  # fmt: skip
    for i in range(args.rounds):
        for system in sorted(results["raw"], reverse=i % 2 == 1):
            results["raw"][system].append(measure(system, args, i))
        results["medians"] = {name: medians(rounds) for name, rounds in results["raw"].items()}
        write_results(f"serving-{args.name}", results)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--server", type=Path, required=True, help="the binary llama-server")
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
    if system == OURS:
        options = ["--max-batch-size", str(args.slots), "--num-threads", str(args.threads)]
        command = neort_command(args.bundle, options)
    else:
        command = llama_command(args.server, args.gguf, args.slots, args.context, args.threads)
    cells = {}
    with TemporaryDirectory() as folder, Server(command, Path(folder, "log")) as server:
        load(server, args, max(args.clients), 1 << 20, requests=1)  # warms up
        for clients in args.clients:
            cells[str(clients)] = load(server, args, clients, 1000 * round_number + clients, args.requests)
            print(system, clients, json.dumps(cells[str(clients)]), flush=True)
        held = server.held()
    return {"start_seconds": round(server.start_seconds, 2), "resident_mb": held.resident_mb, "cells": cells}


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
