"""Which models does an export write, with which grade, and does it still refuse graphs that compute something else?

    python -m benchmarks.exporter.grades CHECKPOINT [--shapes gpt-neo-125m gpt-neo-1.3b] [--only NAME] [--formats int8]

Takes a trained checkpoint, twins of it with outlier channels or large attention scores, and random models: a chaotic
one, and published shapes with transformers' own initialization. Each is exported in every format with the limits that
everyone has; then faults are seeded into its fp32 graph, and each part's distance to torch is measured as an export
measures it. Results: results/grades.json.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from neort.bundle import FORMATS, Quantization
from neort_export import VerificationError, export
from neort_export.verification.grades import grade
from neort_models import PRESETS

from ..checkpoints.outliers import with_outliers, with_scores
from ..checkpoints.shapes import INITIALIZER_RANGE, make_shape
from ..checkpoints.tokenizer import copy_tokenizer
from ..harness.arguments import script_parser
from ..harness.results import earlier_results, write_results
from .faults import measure_faults

OUTLIER_FACTORS = (10.0, 60.0, 300.0)
SCORE_FACTORS = (10.0, 100.0)
CHAOTIC_SPREAD = 0.2


def main() -> None:
    args = parse_args()
    rows = (earlier_results("grades") or {"models": {}})["models"] if args.only else {}
    with tempfile.TemporaryDirectory() as folder:
        for name, checkpoint in checkpoints(args, Path(folder)):
            if args.only in name:
                print(name, flush=True)
                row = rows.setdefault(name, {"formats": {}})
                row["structure"] = measure_faults(checkpoint)
                for quantization in args.formats:
                    row["formats"][quantization] = export_one(checkpoint, Path(folder) / "bundle", quantization)
                write_results("grades", {"models": rows})
            if checkpoint != args.checkpoint:
                shutil.rmtree(checkpoint)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("checkpoint", type=Path, help="a small trained checkpoint")
    parser.add_argument("--shapes", nargs="*", choices=sorted(PRESETS), default=["gpt-neo-125m"])
    parser.add_argument(
        "--only", default="", metavar="NAME", help="models with this in their names; others keep results"
    )
    parser.add_argument("--formats", nargs="*", choices=list(FORMATS), default=list(FORMATS))
    return parser.parse_args()


def checkpoints(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and checkpoints, each made when the one before is done with."""
    from transformers import GPTNeoForCausalLM

    yield args.checkpoint.name, args.checkpoint
    trained = GPTNeoForCausalLM.from_pretrained(args.checkpoint)

    def save(name: str, model: Any) -> tuple[str, Path]:
        model.save_pretrained(folder / "model")
        copy_tokenizer(args.checkpoint, folder / "model")
        return name, folder / "model"

    for factor in OUTLIER_FACTORS:
        yield save(f"its twin with outliers of {factor:g}", with_outliers(trained, factor=factor, shift=factor / 5))
    for factor in SCORE_FACTORS:
        yield save(f"its attention scores times {factor:g}", with_scores(trained, factor))
    config = copy.deepcopy(trained.config)
    config.initializer_range = CHAOTIC_SPREAD
    torch.manual_seed(0)
    yield save(f"random, standard deviation {CHAOTIC_SPREAD:g}", GPTNeoForCausalLM(config))
    for shape in args.shapes:
        make_shape(shape, folder / "model", query_range=INITIALIZER_RANGE)
        yield f"{shape}, as transformers initializes it", folder / "model"


def export_one(checkpoint: Path, bundle: Path, quantization: Quantization) -> dict[str, Any]:
    """Grade and figures of a format, or why it was refused."""
    try:
        report = export(checkpoint, bundle, quantization=quantization)
    except VerificationError as error:
        print(f"  {quantization}: {error}", flush=True)
        return {"refused": str(error)}
    measured = report.verification
    assert measured is not None
    shutil.rmtree(bundle)
    found: dict[str, Any] = {"structure": measured.structure.largest, "left_out": report.left_out}
    for name, agreement in (("fp32_cache", measured.quantized), ("int8_cache", measured.int8_cache)):
        if agreement:
            found[name] = {"grade": grade(agreement), **agreement.to_json()}
    if measured.fp32:
        found["max_abs_diff"] = measured.fp32.max_abs_diff
    print(f"  {quantization}: {measured.grade}, structure {measured.structure.largest:.3g}", flush=True)
    return found


if __name__ == "__main__":
    main()
