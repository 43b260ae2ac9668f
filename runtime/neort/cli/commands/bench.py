"""``neort bench``: how fast a bundle loads, reads and writes on this machine, in about a minute."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ...diagnostics import Figure, machine_facts, measured_speed, resident_bytes
from ...loading import load
from ..arguments import add_bundle, add_kv_cache, bundle_of
from ..display import Progress, aligned, bytes_in_words
from ..streams import Output

__all__ = ["add_parser", "run"]

SECONDS = 45.0
MOST_SECONDS = 3600.0


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("bench", help="measure a bundle's speed on this machine", allow_abbrev=False)
    add_bundle(parser, positional=True)
    parser.add_argument("--num-threads", type=int, metavar="N", help="default: the CPUs this process may use")
    add_kv_cache(parser)
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="X", help=f"time to measure in; default: {SECONDS:g}"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with every round's values")
    parser.set_defaults(run=run, refuse=parser.error)


def run(args: argparse.Namespace, output: Output) -> int:
    """Raises what `load` does."""
    if not 0 <= args.seconds <= MOST_SECONDS:
        args.refuse(f"--seconds is {args.seconds:g}; it must be at least 0 and at most {MOST_SECONDS:g}")
    before, began = resident_bytes(), time.perf_counter()
    model = load(bundle_of(args), num_threads=args.num_threads, kv_cache=args.kv_cache, prefix_cache_bytes=0)
    loading = time.perf_counter() - began
    with Progress("neort bench") as progress:
        figures = [Figure("load", "s", [loading]), *measured_speed(model, args.seconds, progress.update)]
    after = resident_bytes()
    memory = None if before is None or after is None else after - before
    if args.json:
        output.json({**_about(model, memory), "figures": [_facts(figure) for figure in figures]}, indent=1)
        return 0
    facts = machine_facts()
    output.line(
        f"{model.bundle.path.name}, {model.bundle.quantization}, {model.num_threads} threads, {facts.processor}\n"
    )
    for line in aligned([("", "median", "best", "", "rounds"), *map(_row, figures)], "lrrlr"):
        output.line(line)
    if memory is not None:
        output.line(f"\nmemory of the model and its cache: {bytes_in_words(memory)}")
    return 0


def _about(model: Any, memory: int | None) -> dict[str, Any]:
    facts = machine_facts()
    return {
        "bundle": str(model.bundle.path),
        "format": model.bundle.quantization,
        "threads": model.num_threads,
        "processor": facts.processor,
        "versions": dict(facts.versions),
        "memory_bytes": memory,
    }


def _facts(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "unit": figure.unit,
        "median": figure.median,
        "best": figure.best,
        "values": figure.values,
    }


def _row(figure: Figure) -> tuple[str, str, str, str, str]:
    return figure.name, _shown(figure.median), _shown(figure.best), figure.unit, str(len(figure.values))


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
