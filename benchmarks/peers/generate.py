"""Prefill and decode rates of neort and of every other system on the same model, one system after the other.

    python -m benchmarks.peers.generate WORK [--shape gpt-neo-1.3b] [--systems ...] [--cells 32x1 512x1 ...]

A cell is a prompt's length and the number of sequences at once: 512x4 is four prompts of 512 tokens.

Each system has a process and a virtual environment of its own (`workplace`). It is loaded beside the formats of neort
that are of its kind. In every round all get the same prompts, which no round before had, so that nobody can answer from
what he kept; who goes first alternates, and the machine's limits (`machine.roofline`) are measured before them. The
first round warms up. A system that cannot be made or run is recorded with its reason.

Every system's greedy tokens of the first round are compared with those of transformers in float32: `first_tokens_equal`
counts how many are the same before the first that differs. With random weights near ties are common, so quantized
systems may soon differ: many equal tokens say that a conversion is right, few say nothing.

Writes results/generate-SHAPE.json after each system: raw seconds of every round, and medians over the rounds; a round's
decode rate is that of all its steps together. What was measured of other systems on the same machine stays as it is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from ..harness.files import write_whole
from ..harness.results import earlier_results, write_results
from ..machine.roofline import Limits, Machine
from .catalog import COMPARED, REFERENCE, in_order
from .comparison import make_prompts, system_parser
from .workplace import UnavailableError, Worker, Workplace

CELLS = ((32, 1), (512, 1), (1536, 1), (32, 4), (32, 8))  # tokens of each prompt, sequences
PAUSE = 0.2  # seconds before each measurement, in which the threads of the one before fall asleep


def main() -> None:
    args = parse_args()
    place = Workplace(args.work, args.shape)
    name = f"generate-{args.shape}"
    results = earlier_results(name) or {"shape": args.shape, "pairs": {}}
    for peer in args.systems:
        print(peer, flush=True)
        results["pairs"] = in_order({**results["pairs"], peer: pair(args, place, peer)})
        write_results(name, results)


def parse_args() -> argparse.Namespace:
    parser = system_parser(__doc__, COMPARED)
    parser.add_argument("--cells", type=cell_size, nargs="+", default=CELLS, help="TOKENSxSEQUENCES ...")
    parser.add_argument("--tokens", type=int, default=24, help="new tokens of each sequence, at least 2")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def cell_size(text: str) -> tuple[int, int]:
    """Tokens of each prompt, and sequences: "512x4"."""
    prompt, batch = text.split("x")
    return int(prompt), int(batch)


def pair(args: argparse.Namespace, place: Workplace, peer: str) -> dict[str, Any]:
    """One system against the neort formats of its kind, cell by cell, in turns."""
    names = (*COMPARED[peer].compared_with, peer)
    facts: dict[str, Any] = {
        "compared_with": names[:-1], "threads": args.threads, "new_tokens": args.tokens, "rounds": args.rounds,
    }  # fmt: skip
    try:
        expected = reference_tokens(args, place)
        for system in names:
            place.prepared(system)  # conversions come before anything is measured
        machine = Machine(args.threads)
        with ExitStack() as stack:
            workers = {name: stack.enter_context(Worker(place, name, args.threads)) for name in names}
            facts["libraries"] = {name: worker.libraries() for name, worker in workers.items()}
            facts["cells"] = []  # a failure in a later cell leaves the earlier ones
            for prompt, batch in args.cells:
                facts["cells"].append(cell(args, machine, workers, (prompt, batch), expected[prompt]))
    except UnavailableError as error:
        print(error, flush=True)
        return {**facts, "stopped": str(error)}
    return facts


def reference_tokens(args: argparse.Namespace, place: Workplace) -> dict[int, list[int]]:
    """The reference's greedy tokens for the first prompt of each length, computed once and kept in a file."""
    file = place.work / f"{place.shape}-prepared" / "reference.json"
    known: dict[str, list[int]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    lengths = {prompt for prompt, _ in args.cells}
    missing = [length for length in sorted(lengths) if len(known.get(str(length), ())) < args.tokens]
    if missing:
        with Worker(place, REFERENCE, args.threads) as worker:
            for length in missing:
                known[str(length)] = worker.measure(make_prompts(length, 1), args.tokens)["tokens"][0]
        write_whole(file, json.dumps(known))
    return {length: known[str(length)][: args.tokens] for length in lengths}


def cell(
    args: argparse.Namespace, machine: Machine, workers: dict[str, Worker], size: tuple[int, int], expected: list[int]
) -> dict[str, Any]:
    """Raw and median seconds of the systems for one prompt length and batch size, and the limits meanwhile."""
    prompt, batch = size
    raw: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    equal: dict[str, int] = {}
    limits: list[Limits] = []
    for i in range(args.rounds + 1):
        prompts = make_prompts(prompt, batch, i)
        limits.append(machine.limits(rounds=2))
        for name in sorted(workers, reverse=i % 2 == 1):
            time.sleep(PAUSE)
            timing = workers[name].measure(prompts, args.tokens)
            tokens = timing.pop("tokens")
            if i == 0:  # this round warms up
                equal[name] = count_equal(tokens[0], expected)
            else:
                raw[name].append(timing)
    medians = {name: median_rates(timings, prompt, batch) for name, timings in raw.items()}
    print(prompt, batch, json.dumps(medians), json.dumps(equal), flush=True)
    return {
        "prompt_tokens": prompt, "batch": batch, "medians": medians, "first_tokens_equal": equal,
        "limits": median_limits(limits), "raw": rounded(raw),
    }  # fmt: skip


def median_rates(timings: list[dict[str, Any]], prompt: int, batch: int) -> dict[str, float]:
    """Tokens per second of all sequences together. A round's step is the mean of its steps: some tell no more."""
    prefill = statistics.median(timing["prefill_seconds"] for timing in timings)
    step = statistics.median(statistics.fmean(timing["step_seconds"]) for timing in timings)
    return {
        "prefill_tokens_per_second": round(batch * prompt / prefill, 2),
        "decode_tokens_per_second": round(batch / step, 3),
    }


def median_limits(limits: list[Limits]) -> dict[str, float]:
    """Of each limit the median."""
    rows = [asdict(row) for row in limits]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def count_equal(tokens: list[int], expected: list[int]) -> int:
    """How many tokens are as expected before the first that is not."""
    pairs = itertools.takewhile(lambda both: both[0] == both[1], zip(tokens, expected, strict=False))
    return sum(1 for _ in pairs)


def rounded(raw: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Seconds to the microsecond."""
    return {
        name: [
            {
                "prefill_seconds": round(timing["prefill_seconds"], 6),
                "step_seconds": [round(seconds, 6) for seconds in timing["step_seconds"]],
            }
            for timing in timings
        ]
        for name, timings in raw.items()
    }


if __name__ == "__main__":
    main()
