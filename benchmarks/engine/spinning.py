"""Should onnxruntime's threads spin while they wait for work, and how long?

    python -m benchmarks.engine.spinning BUNDLE [--rounds 5]

Decodes without spinning, with short spins and with onnxruntime's default, alternating, each in a process of its own.
Writes results/spinning.json: median milliseconds per token, CPU seconds used per second of decoding, and CPU seconds
used in the second after the last token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from neort.backend import DecoderSession
from neort.bundle import Bundle

from ..harness.arguments import script_parser
from ..harness.files import ROOT
from ..harness.results import write_results

TOKENS = 60
PROMPT = 32
SPIN = "session.intra_op.allow_spinning"
DURATION = "session.intra_op.spin_duration_us"
SETTINGS: dict[str, dict[str, str]] = {
    "off": {SPIN: "0"},
    "100 us": {SPIN: "1", DURATION: "100"},
    "1000 us": {SPIN: "1", DURATION: "1000"},
    "default": {SPIN: "1", DURATION: "-1"},
}


def main() -> None:
    args = parse_args()
    if args.spin:
        print(json.dumps(measure(args.bundle, args.spin)))
    else:
        write_results("spinning", run(args))


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--spin", choices=list(SETTINGS), help=argparse.SUPPRESS)
    return parser.parse_args()


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Alternate the settings and take medians."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(args.rounds):
        for spin, results in rounds.items():
            command = [sys.executable, "-m", "benchmarks.engine.spinning", str(args.bundle.resolve()), "--spin", spin]
            output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
            results.append(json.loads(output))
            print(f"{spin}: {results[-1]}", flush=True)
    medians = {
        spin: {name: statistics.median(r[name] for r in results) for name in results[0]}
        for spin, results in rounds.items()
    }
    return {"bundle": args.bundle.name, "tokens": TOKENS, "medians": medians, "rounds": rounds}


def measure(bundle: Path, spin: str) -> dict[str, float]:
    """One process: warm up, decode, then do nothing for a second."""

    def configure(options: Any) -> None:
        for name, setting in SETTINGS[spin].items():
            options.add_session_config_entry(name, setting)

    session = DecoderSession(Bundle(bundle), configure=configure)
    session.reserve(1, [])
    session.prefill(0, np.arange(PROMPT), 0, 1)
    times = []
    cpu = time.process_time()
    started = time.perf_counter()
    for i in range(TOKENS):
        begun = time.perf_counter()
        session.decode(np.array([i]), np.array([PROMPT + i], np.int32))
        times.append(time.perf_counter() - begun)
    busy = (time.process_time() - cpu) / (time.perf_counter() - started)
    cpu = time.process_time()
    time.sleep(1)
    return {
        "ms_per_token": 1e3 * statistics.median(times),
        "cpu_seconds_per_second": busy,
        "idle_cpu_seconds": time.process_time() - cpu,
    }


if __name__ == "__main__":
    main()
