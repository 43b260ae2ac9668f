"""Computes a bundle's logits of some token ids: the part of processors.py that runs under the emulator.

    python benchmarks/emulated.py BUNDLE IDS.npy LOGITS.npy [--without-remedy]

Needs numpy and neort only. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from neort.backend import DecoderSession
from neort.backend import session as loading
from neort.bundle import Bundle
from neort.engine import Engine
from neort.verification import batch_difference

BATCH_TOKENS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "ids", "logits"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--without-remedy", action="store_true", help="run saturating products as they are")
    args = parser.parse_args()
    answers: list[bool] = []
    ask = loading.int8_products_saturate

    def note(run: loading.Run) -> bool:
        answers.append(ask(run))
        return answers[-1] and not args.without_remedy

    loading.int8_products_saturate = note
    started = time.perf_counter()
    runner, ids = DecoderSession(Bundle(args.bundle)), np.load(args.ids)
    np.save(args.logits, Engine(runner).logits(ids))
    facts = {
        "saturates": answers[0] if answers else None,  # None: the format has no such products
        "seconds": round(time.perf_counter() - started, 1),
        "batch_max_abs_diff": batch_difference(runner, ids[:BATCH_TOKENS]),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
