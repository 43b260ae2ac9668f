"""How long until the first token, from a process that does not run yet?

    python -m benchmarks.peers.cold_start WORK [--shape gpt-neo-1.3b] [--systems ...] [--rounds 5] [--prompt 32]

Files are in the page cache, as they are after a first use: a system's are read before each of its starts, and the first
round does not count. Every round starts each system once, in a fresh process: Python itself, imports, loading, then the
first token of a prompt. Two more fresh processes import numpy, and numpy and neort, which tells what `import neort`
costs by itself.

Writes results/cold_start-SHAPE.json: raw seconds and medians. Systems measured before on the same machine stay.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from typing import Any

from ..harness.files import read_through
from ..harness.results import earlier_results, write_results
from .catalog import SYSTEMS, in_order
from .comparison import make_prompts, system_parser
from .workplace import UnavailableError, Worker, Workplace

IMPORT = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def main() -> None:
    args = parse_args()
    place = Workplace(args.work, args.shape)
    name = f"cold_start-{args.shape}"
    results = earlier_results(name) or {"shape": args.shape, "systems": {}}
    results["imports"] = measure_imports(args.rounds)
    results["systems"] = in_order(results["systems"] | measure_systems(args, place))
    write_results(name, results)


def parse_args() -> argparse.Namespace:
    parser = system_parser(__doc__, SYSTEMS)
    parser.add_argument("--prompt", type=int, default=32, help="tokens of the prompt")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def measure_imports(rounds: int) -> dict[str, Any]:
    """Seconds to import numpy, and to import neort with it; medians and all rounds."""
    raw: dict[str, list[float]] = {"numpy": [], "numpy, neort": []}
    for i in range(rounds + 1):
        for modules, seconds in raw.items():
            command = [sys.executable, "-c", IMPORT.format(modules)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            if i:  # the first round warms up
                seconds.append(round(float(output), 4))
    numpy, both = (statistics.median(seconds) for seconds in raw.values())
    return {"numpy_seconds": numpy, "neort_seconds_beyond_numpy": round(both - numpy, 4), "raw": raw}


def measure_systems(args: argparse.Namespace, place: Workplace) -> dict[str, Any]:
    """Every system's starts, in turns, so that a slow stretch of time hits all of them."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in args.systems}
    facts: dict[str, dict[str, Any]] = {name: {"prompt_tokens": args.prompt} for name in args.systems}
    for i in range(args.rounds + 1):
        for name in args.systems:
            if "stopped" in facts[name]:
                continue
            try:
                row = start(args, place, name)
            except UnavailableError as error:
                facts[name]["stopped"] = str(error)
                continue
            print(i, name, row, flush=True)
            if i:  # the first round brings the libraries into the page cache
                rows[name].append(row)
    for name, raw in rows.items():
        if raw:
            facts[name] |= {key: round(statistics.median(row[key] for row in raw), 4) for key in raw[0]} | {"raw": raw}
    return facts


def start(args: argparse.Namespace, place: Workplace, name: str) -> dict[str, float]:
    """One start: from nothing to a loaded model, of that imports and loading, then the first token."""
    prompts = make_prompts(args.prompt, 1)
    for file in place.files(name):
        read_through(file)
    with Worker(place, name, args.threads) as worker:
        began = time.perf_counter()
        worker.measure(prompts, 1)
        return {
            "ready_seconds": round(worker.start_seconds, 4),
            "load_seconds": round(worker.load_seconds, 4),
            "first_token_seconds": round(time.perf_counter() - began, 4),
        }


if __name__ == "__main__":
    main()
