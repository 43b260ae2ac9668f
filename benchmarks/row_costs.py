"""What does it cost to verify k drafted tokens in one run, next to a decode step?

    python benchmarks/row_costs.py NAME=BUNDLE ... [--lengths 32,512] [--rounds 20]

Times decode steps and runs over 2 to 17 tokens behind prompts of each length, each run after two steps as a text
grows, and fits

    time of k + 1 rows / time of one = 1 + run + k * token

which is what `neort.speculative.speculator.COSTS` holds by format. Updates results/row_costs.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from common import earlier_results, write_results
from neort.backend import DecoderSession
from neort.bundle import Bundle
from neort.engine import PREFILL_CHUNK

ROWS = (2, 3, 4, 6, 8, 12, 17)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=BUNDLE")
    parser.add_argument("--lengths", default="32,512", help="cached tokens, comma-separated")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    for name, _, path in (model.partition("=") for model in args.models):
        bundle = Bundle(Path(path))
        cells = measure(bundle, [int(length) for length in args.lengths.split(",")], args.rounds)
        run, token = fit(cells)
        row = {"format": bundle.quantization, "run": round(run, 3), "token": round(token, 3), "cells": cells}
        print(name, row, flush=True)
        results = earlier_results("row_costs") or {"models": {}}
        results["models"][name] = row
        write_results("row_costs", results)


def measure(bundle: Bundle, lengths: list[int], rounds: int) -> list[dict[str, Any]]:
    """Median milliseconds of a decode step and of runs over several rows, by cached tokens."""
    session = DecoderSession(bundle, max_batch_size=1)
    session.reserve(1, [])
    cells = []
    for length in lengths:
        ids = np.random.default_rng(0).integers(0, bundle.spec.vocab_size, length)
        for start in range(0, length, PREFILL_CHUNK):
            session.prefill(0, ids[start : start + PREFILL_CHUNK], start, 0)
        times: dict[int, list[float]] = {rows: [] for rows in (1, *ROWS)}
        for i in range(rounds + 1):
            for rows in ROWS:
                began = [time.perf_counter()]
                for at in (length + i, length + i + 1):
                    session.decode(ids[:1], np.array([at], np.int32))
                    began.append(time.perf_counter())
                session.verify(ids[:rows], length + i + 2)
                began.append(time.perf_counter())
                if i:  # the first round warms up
                    times[1].append(began[2] - began[1])
                    times[rows].append(began[3] - began[2])
        medians = {rows: round(1e3 * statistics.median(seconds), 4) for rows, seconds in times.items()}
        cells.append({"cached_tokens": length, "milliseconds": medians})
    return cells


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
