"""What perplexity has each format, beside torch? By lm-eval's definitions, which `neort eval` has.

    python -m benchmarks.formats.perplexity CHECKPOINT TEXT [--characters 200000] [--bundle NAME=PATH ...]

Exports the checkpoint in every format, unless bundles are given; scores the beginning of the text by rolling windows of
the model's context with each bundle, and with transformers in float32 on the same windows; writes
results/perplexity.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

import neort
from neort.bundle import Quantization
from neort.scoring import Perplexity, TextScorer
from neort_export import export

from ..harness.arguments import named_path, script_parser
from ..harness.results import write_results

FORMATS: tuple[Quantization, ...] = ("fp32", "int8", "int8-block", "int4")


def run(args: argparse.Namespace) -> dict[str, Any]:
    text = args.text.read_text(encoding="utf-8")[: args.characters]
    with tempfile.TemporaryDirectory() as folder:
        bundles = dict(args.bundle) or exported(args.checkpoint, Path(folder))
        found = {}
        for name, path in bundles.items():
            model = neort.load(path)
            found[name] = model.perplexity(text)
            print(f"{name}: {found[name].word:.4f} per word", flush=True)
        found["torch"] = by_torch(args.checkpoint, model.scorer(), text)
    rows = {name: described(perplexity) for name, perplexity in found.items()}
    return {"checkpoint": args.checkpoint.name, "text": args.text.name, "systems": rows}


def exported(checkpoint: Path, folder: Path) -> dict[str, Path]:
    """A bundle in each format."""
    for name in FORMATS:
        print(f"exporting {name}", flush=True)
        export(checkpoint, folder / name, quantization=name)
    return {name: folder / name for name in FORMATS}


@torch.inference_mode()
def by_torch(checkpoint: Path, scorer: TextScorer, text: str) -> Perplexity:
    """That of transformers' own model in float32, window by window."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    logprobs: list[float] = []
    for window in scorer.windows(text):
        targets = torch.from_numpy(window.targets)[:, None]
        logits = model(torch.from_numpy(window.token_ids)[None]).logits[0, -len(targets) :]
        logprobs += logits.log_softmax(-1).gather(1, targets)[:, 0].tolist()
    return Perplexity.of(text, logprobs)


def described(perplexity: Perplexity) -> dict[str, Any]:
    figures = {name: getattr(perplexity, name) for name in ("token", "word", "byte", "bits_per_byte")}
    return {**dataclasses.asdict(perplexity), **figures}


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("text", type=Path, help="UTF-8 text that the model was not trained on")
    parser.add_argument("--characters", type=int, default=200_000, help="how much of its beginning (200000)")
    parser.add_argument("--bundle", type=named_path, action="append", default=[], help="a bundle of the checkpoint")
    return parser.parse_args()


def main() -> None:
    write_results("perplexity", run(parse_args()))


if __name__ == "__main__":
    main()
