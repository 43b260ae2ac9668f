"""What does a key-value cache in int8 cost or save? One bundle with either cache, in turns.

    python -m benchmarks.engine.kv_cache BUNDLE [--name gpt-neo-1.3b-int8] [--threads 2] [--rounds 5]

Decode steps after several lengths, of one sequence and of eight, and prompts of 512 tokens. The caches are full:
memory that nobody has written is one page of zeros, which is always near. What int8 does to quality is in
results/quality.json. Both are loaded once in either order, since weights lie in better or worse memory by chance.

Writes results/kv_cache-NAME.json: raw milliseconds, and medians.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neort.backend import DecoderSession, available_cpus
from neort.bundle import Bundle, ModelSpec
from neort.kvcache import CACHE_TYPES, CacheType

from ..harness.arguments import script_parser
from ..harness.results import write_results
from ..harness.timing import seconds
from .sessions import fill_cache, prefill

STEPS = ((32, 1), (512, 1), (1536, 1), (512, 8), (1536, 8))  # cached positions, sequences
STEPS_PER_ROUND = 8
PROMPT = 512

Run = Callable[[DecoderSession], list[float]]


def main() -> None:
    args = parse_args()
    bundle = Bundle(args.bundle)
    timed = runs(bundle.spec)
    raw: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in CACHE_TYPES} for name in timed}
    sizes: dict[str, int] = {}
    for order in (list(CACHE_TYPES), list(reversed(CACHE_TYPES))):
        sessions = {kind: open_session(bundle, args.threads, kind) for kind in order}
        sizes |= {kind: session.bytes_per_position for kind, session in sessions.items()}
        for name, run in timed.items():
            compare(run, sessions, args.rounds, raw[name])
        sessions.clear()  # before the next ones are loaded
    facts = {
        "bundle": args.name or bundle.path.name,
        "threads": args.threads,
        "bytes_per_position": sizes,
        "runs": {name: summary(times) for name, times in raw.items()},
    }
    write_results(f"kv_cache-{facts['bundle']}", facts)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--name", help="of the results file; default: the bundle's folder")
    parser.add_argument("--threads", type=int, default=available_cpus())
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def runs(spec: ModelSpec) -> dict[str, Run]:
    """What is timed, where the model has so many positions: functions of a session that return each run's seconds."""
    fitting = [(length, batch) for length, batch in STEPS if length < spec.max_position_embeddings]
    decodes = {f"decode @{length}, batch {batch}": decode(length, batch) for length, batch in fitting}
    return {**decodes, f"prefill {PROMPT}": lambda session: [seconds(lambda: prefill(session, np.arange(PROMPT)))]}


def decode(length: int, batch: int) -> Run:
    """Times several steps of ``batch`` sequences after ``length`` positions each."""
    ids, lengths = np.arange(batch), np.full(batch, length, np.int32)

    def run(session: DecoderSession) -> list[float]:
        return [seconds(lambda: session.decode(ids, lengths)) for _ in range(STEPS_PER_ROUND + 1)][1:]

    return run


def open_session(bundle: Bundle, threads: int, kind: CacheType) -> DecoderSession:
    """A session with a full cache of a type."""
    session = DecoderSession(bundle, num_threads=threads, max_batch_size=8, kv_cache=kind)
    session.reserve(8, [])
    fill_cache(session)
    return session


def compare(run: Run, sessions: dict[CacheType, DecoderSession], rounds: int, raw: dict[str, list[float]]) -> None:
    """Add the milliseconds of a run with each cache, in turns."""
    for i in range(rounds + 1):
        for kind, session in sessions.items():
            times = run(session)
            if i:  # the first round warms up
                raw[kind] += [round(1000 * second, 3) for second in times]


def summary(raw: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, their ratio, and all milliseconds."""
    medians = {kind: round(statistics.median(times), 3) for kind, times in raw.items()}
    print(medians, flush=True)
    return {"milliseconds": medians, "fp32_over_int8": round(medians["fp32"] / medians["int8"], 3), "raw": raw}


if __name__ == "__main__":
    main()
