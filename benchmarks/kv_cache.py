"""What does a key-value cache in int8 cost or save? One bundle with either cache, in turns.

    python benchmarks/kv_cache.py BUNDLE [--name gpt-neo-1.3b-int8] [--threads 2] [--rounds 5]

Decode steps behind several lengths, of one sequence and of eight, and prompts of 512 tokens. The caches are full:
memory that nobody has written is one page of zeros, which is always near. What int8 does to quality is in
results/quality.json.

Writes results/kv_cache-NAME.json: raw milliseconds, and medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common import write_results
from neort.bundle import Bundle
from neort.cache import CACHE_TYPES
from neort.engine import PREFILL_CHUNK
from neort.session import DecoderSession
from neort.threads import available_cpus

STEPS = ((32, 1), (512, 1), (1536, 1), (512, 8), (1536, 8))  # cached positions, sequences
STEPS_PER_ROUND = 8
PROMPT = 512


def main() -> None:
    args = parse_args()
    bundle = Bundle(args.bundle)
    sessions = {
        kind: DecoderSession(bundle, num_threads=args.threads, max_batch_size=8, kv_cache=kind) for kind in CACHE_TYPES
    }
    for session in sessions.values():
        session.reserve(8, [])
        fill(session)
    rows = {name: compare(run, sessions, args.rounds) for name, run in runs().items()}
    facts = {
        "bundle": args.name or bundle.path.name,
        "threads": args.threads,
        "bytes_per_position": {kind: session.bytes_per_position for kind, session in sessions.items()},
        "runs": rows,
    }
    write_results(f"kv_cache-{facts['bundle']}", facts)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--name", help="of the results file; default: the bundle's folder")
    parser.add_argument("--threads", type=int, default=available_cpus())
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def runs() -> dict[str, Callable[[DecoderSession], list[float]]]:
    """What is timed: functions of a session that return the seconds of each run."""
    decodes = {f"decode @{length}, batch {batch}": decode(length, batch) for length, batch in STEPS}
    return {**decodes, f"prefill {PROMPT}": prefill}


def decode(length: int, batch: int) -> Callable[[DecoderSession], list[float]]:
    ids, lengths = np.arange(batch), np.full(batch, length, np.int32)

    def run(session: DecoderSession) -> list[float]:
        return [seconds(lambda: session.decode(ids, lengths)) for _ in range(STEPS_PER_ROUND + 1)][1:]

    return run


def fill(session: DecoderSession) -> None:
    """Write the whole cache."""
    rows = session.read(0, 0, session.spec.max_position_embeddings)
    for slot in range(session.max_batch_size):
        session.write(slot, 0, {name: np.full_like(array, 1) for name, array in rows.items()})


def prefill(session: DecoderSession) -> list[float]:
    ids = np.arange(PROMPT)

    def run() -> None:
        for start in range(0, PROMPT, PREFILL_CHUNK):
            session.prefill(0, ids[start : start + PREFILL_CHUNK], start, int(start + PREFILL_CHUNK >= PROMPT))

    return [seconds(run)]


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def compare(
    run: Callable[[DecoderSession], list[float]], sessions: dict[Any, DecoderSession], rounds: int
) -> dict[str, Any]:
    """Milliseconds of a run with each cache, in turns."""
    raw: dict[str, list[float]] = {kind: [] for kind in sessions}
    for i in range(rounds + 1):
        for kind, session in sessions.items():
            times = run(session)
            if i:  # the first round warms up
                raw[kind] += [round(1000 * second, 3) for second in times]
    medians = {kind: round(statistics.median(times), 3) for kind, times in raw.items()}
    print(medians, flush=True)
    return {"milliseconds": medians, "fp32_over_int8": round(medians["fp32"] / medians["int8"], 3), "raw": raw}


if __name__ == "__main__":
    main()
