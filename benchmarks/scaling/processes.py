"""Workers or threads: what gives more tokens per second, who answers sooner, and what does each process take?

    python -m benchmarks.scaling.processes BUNDLE ... [--workers 1 2] [--rounds 3] [--prompts 96] [--tokens 64]
        [--clients 1 4 16] [--requests 3]

Each number of workers divides the same CPUs: one process with a thread for each of 4 CPUs, two with two threads, four
with one. In every round each of them in turn, in alternating order,

- runs `neort generate --input FILE --workers N` twice, with few prompts and with more of them: tokens by seconds of the
  difference, so that loading and the last records do not count,
- serves (`neort serve --workers N`), is asked by 1, 4 ... clients in a closed loop, and is measured: seconds until it
  is ready, and the memory of all its processes (PSS: shared pages are divided by the number of those who share them).

Prompts are random token ids, other ones in every cell and round; prompts and answers of the server have mixed lengths.
Tokens are chosen greedily and go on beyond the end of text, so all do the same work.

Writes results/processes-NAME.json after each round, NAME being the bundle's folder: every round's figures, and medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from neort.backend import available_cpus
from neort.bundle import Bundle

from ..harness.arguments import script_parser
from ..harness.results import write_results
from ..peers.memory import memory
from ..serving.load import closed_loop, summary
from ..serving.servers import Server, neort_command
from ..serving.workload import Lengths, of_ids

TIMES = ("ttft_milliseconds", "tpot_milliseconds")
FEWEST = 8  # requests of a cell


def main() -> None:
    args = parse_args()
    for path in args.bundles:
        measured(path, args)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--workers", type=int, nargs="+", default=halves(available_cpus()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=96, help="of the longer file")
    parser.add_argument("--few", type=int, default=32, help="prompts of the shorter file")
    parser.add_argument("--tokens", type=int, default=64, help="new ones of each")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=3, help=f"of each client; at least {FEWEST} of all")
    return parser.parse_args()


def halves(cpus: int) -> list[int]:
    """1, 2, 4 ... up to the number of CPUs."""
    return [1 << i for i in range(cpus.bit_length()) if 1 << i <= cpus]


def measured(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure a bundle with every number of workers; write and return the results."""
    results: dict[str, Any] = {
        "name": path.name, "cpus": available_cpus(), "rounds": args.rounds, "prompt_tokens": args.prompt_tokens,
        "new_tokens": args.tokens, "prompts": args.prompts, "raw": {str(count): [] for count in args.workers},
    }  # fmt: skip
    for i in range(args.rounds):
        for count in args.workers if i % 2 == 0 else reversed(args.workers):
            with TemporaryDirectory() as folder:
                facts = {"generate": generated(path, count, args, Path(folder), i)}
                facts |= served(path, count, args, Path(folder), i)
            results["raw"][str(count)].append(facts)
            print(path.name, count, facts, flush=True)
        results["medians"] = {count: medians(rounds) for count, rounds in results["raw"].items()}
        write_results(f"processes-{path.name}", results)
    return results


def generated(path: Path, workers: int, args: argparse.Namespace, folder: Path, seed: int) -> dict[str, float]:
    """Seconds for few prompts and for more of them, and tokens per second of the difference."""
    took = [_generate(path, workers, args, folder, count, seed) for count in (args.few, args.prompts)]
    rate = (args.prompts - args.few) * args.tokens / max(took[1] - took[0], 1e-9)
    return {"few_seconds": round(took[0], 3), "seconds": round(took[1], 3), "tokens_per_second": round(rate, 2)}


def _generate(path: Path, workers: int, args: argparse.Namespace, folder: Path, count: int, seed: int) -> float:
    source, vocabulary = random.Random(seed * 1000 + count), Bundle(path).spec.vocab_size
    file, out = folder / "prompts.jsonl", folder / f"out-{count}"
    with file.open("w", encoding="utf-8") as stream:
        for _ in range(count):
            ids = [source.randrange(1, vocabulary - 1) for _ in range(args.prompt_tokens)]
            stream.write(json.dumps({"prompt": ids}) + "\n")
    options = ["--max-new-tokens", str(args.tokens), "--min-new-tokens", str(args.tokens), "--no-do-sample"]
    files = ["--input", str(file), "--output", str(out), "--workers", str(workers)]
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "neort", "generate", "--model", str(path), *files, *options],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def served(path: Path, workers: int, args: argparse.Namespace, folder: Path, seed: int) -> dict[str, Any]:
    """A server's start, its memory, and its figures for every number of clients."""
    vocabulary = Bundle(path).spec.vocab_size
    command = neort_command(path, ["--workers", str(workers)])
    cells: dict[str, Any] = {}
    with Server(command, log=folder / "log") as server:
        for clients in args.clients:
            count = max(FEWEST, args.requests * clients)
            asked = of_ids(
                seed * 100 + clients, count, Lengths((16, 128), (16, 64)), vocabulary, temperature=0, ignore_eos=True
            )
            cells[str(clients)] = summary(asyncio.run(closed_loop(server.address, asked, clients)))
        held = [memory(pid) for pid in processes(server.process.pid)]
        facts = {"start_seconds": round(server.start_seconds, 3), "clients": cells}
        if (status := server.end()) != 0:
            raise RuntimeError(f"the server ended with status {status}")
    return {**facts, "processes": len(held), "pss_mb": megabytes(sum(each["pss"] for each in held)),
            "anonymous_mb": megabytes(sum(each["anonymous"] for each in held))}  # fmt: skip


def processes(pid: int) -> list[int]:
    """A process and all that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(each for child in children for each in processes(int(child)))]


def megabytes(count: int) -> float:
    return round(count / 1e6, 1)


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure the median over the rounds."""
    return {
        "tokens_per_second": _median(rounds, "generate", "tokens_per_second"),
        "start_seconds": _median(rounds, "start_seconds"),
        "processes": rounds[0]["processes"],
        "pss_mb": _median(rounds, "pss_mb"),
        "anonymous_mb": _median(rounds, "anonymous_mb"),
        "clients": {clients: _medians_of_cell(rounds, clients) for clients in rounds[0]["clients"]},
    }


def _medians_of_cell(rounds: list[dict[str, Any]], clients: str) -> dict[str, Any]:
    times = {kind: {rank: _median(rounds, "clients", clients, kind, rank) for rank in ("p50", "p95")} for kind in TIMES}
    return {"tokens_per_second": _median(rounds, "clients", clients, "tokens_per_second"), **times}


def _median(rounds: list[dict[str, Any]], *path: str) -> float:
    return round(statistics.median(_at(each, *path) for each in rounds), 3)


def _at(facts: dict[str, Any], *path: str) -> float:
    """A figure within figures."""
    value: Any = facts
    for key in path:
        value = value[key]
    return float(value)


if __name__ == "__main__":
    main()
