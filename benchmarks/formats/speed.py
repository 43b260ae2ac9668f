"""Prefill and decode rates of neort in every format, on the same model, in one process, alternating.

    python -m benchmarks.formats.speed CHECKPOINT WORK [--prompt 512] [--tokens 32] [--rounds 5]

Bundles are written to the folder WORK without verification, and deleted. Writes results/speed.json: the median of the
rounds in tokens per second, one sequence, and the bytes of weights.data.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np

import neort
from neort.bundle import FORMATS, WEIGHTS
from neort_export import export

from ..harness.arguments import script_parser
from ..harness.results import write_results


def main() -> None:
    args = parse_args()
    paths = {name: args.work / f"speed-{name}" for name in FORMATS}
    for name, path in paths.items():
        export(args.checkpoint, path, quantization=name, verify=False, force=True)
    try:
        write_results("speed", run(args, paths))
    finally:
        for path in paths.values():
            shutil.rmtree(path)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("work", type=Path, help="folder for the bundles")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def run(args: argparse.Namespace, paths: dict[Any, Path]) -> dict[str, Any]:
    models = {name: neort.load(path, prefix_cache_bytes=0) for name, path in paths.items()}
    vocabulary = next(iter(models.values())).spec.vocab_size
    prompt = np.random.default_rng(0).integers(0, vocabulary, args.prompt)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for i in range(args.rounds + 1):  # the first round warms up
        for name, model in models.items():
            measured = once(model, prompt, args.tokens)
            if i:
                rates[name].append(measured)
        print(f"round {i} of {args.rounds}", flush=True)
    return {
        "checkpoint": args.checkpoint.name,
        "threads": next(iter(models.values())).num_threads,
        "prompt_tokens": args.prompt,
        "new_tokens": args.tokens,
        "formats": {
            name: {
                "prefill_tokens_per_second": round(statistics.median(rate[0] for rate in rates[name]), 1),
                "decode_tokens_per_second": round(statistics.median(rate[1] for rate in rates[name]), 2),
                "weight_bytes": (path / WEIGHTS).stat().st_size,
            }
            for name, path in paths.items()
        },
    }


def once(model: neort.Model, prompt: Any, tokens: int) -> tuple[float, float]:
    """Rates of prompt and new tokens, in tokens per second."""
    stats = model.generate(prompt, max_new_tokens=tokens, min_new_tokens=tokens).stats
    return stats.prompt_tokens_per_second, stats.tokens_per_second


if __name__ == "__main__":
    main()
