"""What do the logits of k drafted tokens cost in one run, next to a decode step?

    python -m benchmarks.engine.row_costs NAME=BUNDLE ... [--lengths 32,512] [--rounds 20]

Times decode steps and runs over 2 to 17 tokens after prompts of each length, each run after two steps as a text
grows, and fits

    time of k + 1 rows / time of one = 1 + run + k * token

which is what `neort.bundle.FORMATS` holds by format. Updates results/row_costs.json.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np

from neort.backend import DecoderSession
from neort.bundle import Bundle

from ..harness.arguments import integers, named_path, script_parser
from ..harness.results import earlier_results, write_results
from ..harness.timing import seconds
from .sessions import prefill, random_ids

ROWS = (2, 3, 4, 6, 8, 12, 17)


def main() -> None:
    args = parse_args()
    for name, path in args.models:
        bundle = Bundle(path)
        cells = measure(bundle, args.lengths, args.rounds)
        run, token = fit(cells)
        row = {"format": bundle.quantization, "run": round(run, 3), "token": round(token, 3), "cells": cells}
        print(name, row, flush=True)
        results = earlier_results("row_costs") or {"models": {}}
        results["models"][name] = row
        write_results("row_costs", results)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("models", nargs="+", type=named_path, metavar="NAME=BUNDLE")
    parser.add_argument("--lengths", type=integers, default="32,512", help="cached tokens, comma-separated")
    parser.add_argument("--rounds", type=int, default=20)
    return parser.parse_args()


def measure(bundle: Bundle, lengths: list[int], rounds: int) -> list[dict[str, Any]]:
    """Median milliseconds of a decode step and of runs over several rows, by cached tokens."""
    session = DecoderSession(bundle, max_batch_size=1)
    session.reserve(1, [])
    cells = []
    for length in lengths:
        prefill(session, random_ids(bundle.spec, length))
        times: dict[int, list[float]] = {rows: [] for rows in (1, *ROWS)}
        for i in range(rounds + 1):
            for rows in ROWS:
                step, run = time_once(session, length + i, rows)
                if i:  # the first round warms up
                    times[1].append(step)
                    times[rows].append(run)
        medians = {rows: round(1e3 * statistics.median(each), 4) for rows, each in times.items()}
        cells.append({"cached_tokens": length, "milliseconds": medians})
    return cells


def time_once(session: DecoderSession, start: int, rows: int) -> tuple[float, float]:
    """Seconds of the second of two decode steps from position ``start`` on, and of a run over ``rows`` tokens."""
    ids = random_ids(session.spec, rows)
    session.decode(ids[:1], np.array([start], np.int32))
    step = seconds(lambda: session.decode(ids[:1], np.array([start + 1], np.int32)))
    return step, seconds(lambda: session.extend(ids, start + 2))


def fit(cells: list[dict[str, Any]]) -> tuple[float, float]:
    """``run``, not below 0, and ``token`` by least squares over all cells."""
    pairs = [(rows - 1, cell["milliseconds"][rows] / cell["milliseconds"][1] - 1) for cell in cells for rows in ROWS]
    drafted, beyond = np.array(pairs).T
    token, run = np.polyfit(drafted, beyond, 1)
    if run < 0:
        run, token = 0.0, (drafted @ beyond) / (drafted @ drafted)
    return float(run), float(token)


if __name__ == "__main__":
    main()
