"""Do logits depend on the number of threads, or on who else is in the batch? Every format with either cache.

    python -m benchmarks.engine.threads [--shape gpt-neo-125m] [--threads 1,2,3,4,8,12,13,16,32,64]
        [--lengths 300,700,1500]

Exports two layers of a published model's shape, with random weights, in each format, and decodes after prompts of each
length: each alone, all together, and alone on one thread. Where threads outnumber heads, onnxruntime adds up in another
order ("as onnxruntime does it"), unless a dummy stands beside the sequence ("as neort does it"). Bits depend on the
number of threads and not on that of CPUs, so that a small machine will do.

Writes results/threads.json: the largest absolute differences of logits.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from neort.arrays import Ids, Lengths, Logits, Rows
from neort.backend import DECODERS, BoundInputs, DecoderSession, RunInputs, open_session, session_options
from neort.bundle import FORMATS, Bundle
from neort.kvcache import CACHE_TYPES, CacheType, KVCache
from neort_export import export

from ..checkpoints.shapes import make_two_layers
from ..harness.arguments import integers, script_parser
from ..harness.results import write_results
from .sessions import random_ids

STEPS = 4

Sequences = dict[int, Rows]  # cached rows by the number of positions


class Steps(Protocol):
    """What decodes: a session, or onnxruntime by itself."""

    def reserve(self, slots: int, lengths: list[int]) -> object: ...
    def write(self, slot: int, start: int, rows: Rows) -> None: ...
    def decode(self, token_ids: Ids, lengths: Lengths) -> Logits: ...


class WithoutDummy:
    """Decode steps as onnxruntime does them: no dummy beside the sequences, whatever the number of threads."""

    def __init__(self, bundle: Bundle, kind: CacheType, threads: int, max_batch_size: int) -> None:
        file = bundle.file(DECODERS[kind])
        self.session = open_session(str(file), session_options(threads, file.read_bytes()))
        self.cache = KVCache(bundle.spec, max_batch_size, kind)
        self.reserve, self.write = self.cache.reserve, self.cache.write

    def decode(self, token_ids: Ids, lengths: Lengths) -> Logits:
        """See `DecoderSession.decode`."""
        inputs = RunInputs(len(lengths), 1, 1, dummy=False)
        bound = BoundInputs(self.session, self.cache, slice(0, len(lengths)), inputs)
        bound.fill(token_ids[:, None], lengths)
        return bound.run()[:, 0]


def main() -> None:
    args = parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_two_layers(args.shape, folder / "checkpoint")
        for quantization in FORMATS:
            exported = export(folder / "checkpoint", folder / quantization, quantization=quantization, verify=False)
            bundle = Bundle(exported.path)
            for kind in CACHE_TYPES:
                if DECODERS[kind] in bundle.file_names:
                    differences = measure(bundle, kind, args.threads, args.lengths)
                    rows.append({"format": quantization, "kv_cache": kind, **differences})
                    print(rows[-1], flush=True)
        facts = {"shape": args.shape, "num_heads": bundle.spec.num_heads, "lengths": args.lengths}
    write_results("threads", {**facts, "rows": rows})


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("--shape", default="gpt-neo-125m")
    parser.add_argument("--threads", type=integers, default="1,2,3,4,8,12,13,16,32,64")
    parser.add_argument("--lengths", type=integers, default="300,700,1500", help="of the prompts, in tokens")
    return parser.parse_args()


def measure(bundle: Bundle, kind: CacheType, threads: list[int], lengths: list[int]) -> dict[str, Any]:
    """By what each number of threads changes logits, as onnxruntime computes them and as neort does."""
    single = DecoderSession(bundle, num_threads=1, max_batch_size=len(lengths), kv_cache=kind)
    sequences = prefill(single, lengths)
    ids = random_ids(bundle.spec, STEPS)
    expected = alone(single, sequences, ids)
    differences: dict[str, Any] = {"onnxruntime": {}, "neort": {}}
    for count in threads:
        without = WithoutDummy(bundle, kind, count, len(lengths))
        differences["onnxruntime"][count] = compare(without, sequences, ids, expected)
        session = DecoderSession(bundle, num_threads=count, max_batch_size=len(lengths), kv_cache=kind)
        differences["neort"][count] = compare(session, sequences, ids, expected)
    return differences


def compare(steps: Steps, sequences: Sequences, ids: Ids, expected: Logits) -> dict[str, float]:
    """Largest differences between steps alone and in a batch, and between steps alone and on one thread."""
    mine, batch = alone(steps, sequences, ids), together(steps, sequences, ids)
    return {"batch": float(np.abs(mine - batch).max()), "one_thread": float(np.abs(mine - expected).max())}


def prefill(session: DecoderSession, lengths: list[int]) -> Sequences:
    """The cached rows of a prompt's first positions, for each number of them."""
    session.reserve(1, [])
    session.prefill(0, random_ids(session.spec, max(lengths)), 0, 0)
    return {length: session.read(0, 0, length) for length in lengths}


def alone(steps: Steps, sequences: Sequences, ids: Ids) -> Logits:
    """Logits [n, steps, V] of each sequence by itself."""
    return np.concatenate([together(steps, {length: rows}, ids) for length, rows in sequences.items()])


def together(steps: Steps, sequences: Sequences, ids: Ids) -> Logits:
    """Logits [n, steps, V] of the sequences in one batch, each continued with ``ids``."""
    steps.reserve(len(sequences), [])
    for slot, rows in enumerate(sequences.values()):
        steps.write(slot, 0, rows)
    lengths = np.array(list(sequences), np.int32)
    logits = [steps.decode(np.full(len(lengths), token), lengths + np.int32(i)).copy() for i, token in enumerate(ids)]
    return np.stack(logits, axis=1)


if __name__ == "__main__":
    main()
