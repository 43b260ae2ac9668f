"""Computes a bundle's logits of some token ids: the part of `cpus` that runs under the emulator.

    python -m benchmarks.machine.emulated BUNDLE IDS.npy LOGITS.npy [--without-remedy]

Needs numpy and neort only. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from neort.backend import DECODER, DecoderSession, int8_products_saturate_here
from neort.bundle import Bundle
from neort.engine import EngineCore
from neort.verification import batch_difference

from ..harness.arguments import script_parser

BATCH_TOKENS = 64
INT8_PRODUCT = b"MatMulIntegerToFloat"


def main() -> None:
    args = parse_args()
    started = time.perf_counter()
    bundle, ids = Bundle(args.bundle), np.load(args.ids)
    runner = DecoderSession(bundle, configure=without_remedy if args.without_remedy else None)
    np.save(args.logits, EngineCore(runner).logits(ids))
    facts = {
        "saturates": saturates(bundle),
        "seconds": round(time.perf_counter() - started, 1),
        "batch_max_abs_diff": batch_difference(runner, ids[:BATCH_TOKENS]),
    }
    print(json.dumps(facts))


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    for name in ("bundle", "ids", "logits"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--without-remedy", action="store_true", help="run saturating products as they are")
    return parser.parse_args()


def saturates(bundle: Bundle) -> bool | None:
    """Whether int8 products saturate on this CPU; None where the format has no such products."""
    return int8_products_saturate_here() if INT8_PRODUCT in bundle.file(DECODER).read_bytes() else None


def without_remedy(options: Any) -> None:
    """Let a session run int8 products as they are."""
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.x64quantprecision", "0")


if __name__ == "__main__":
    main()
