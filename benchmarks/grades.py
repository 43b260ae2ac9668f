"""Which models does an export write, with which grade, and does it still refuse graphs that compute something else?

    python benchmarks/grades.py CHECKPOINT [--shapes gpt-neo-125m gpt-neo-1.3b] [--only NAME] [--formats int8]

Takes a trained checkpoint, twins of it with outlier channels or large attention scores, and random models: a chaotic
one, and published shapes with transformers' own initialization. Each is exported in every format with the limits that
everyone has; then faults are seeded into its fp32 graph, and each part's distance to torch is measured as an export
measures it. Results: results/grades.json.
"""

from __future__ import annotations

import argparse
import copy
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

import shapes
from common import earlier_results, write_results
from neort.bundle import read_spec
from neort.tokenizer import Tokenizer
from neort_export import VerificationError, export
from neort_export.bundle import model_section
from neort_export.checkpoint import Checkpoint
from neort_export.formats import FORMATS, Quantization
from neort_export.graph import decoder_graph, name_of, nodes
from neort_export.graph.rewrite import weight_of
from neort_export.progress import Silent
from neort_export.reference import Reference
from neort_export.verification.grades import grade
from neort_export.verification.structure import COMPARED_LOGITS, compared_tokens, measure_structure
from neort_export.verification.texts import Texts
from neort_models import RECIPES
from outliers import with_outliers

OUTLIER_FACTORS = (10.0, 60.0, 300.0)
SCORE_FACTORS = (10.0, 100.0)
CHAOTIC_SPREAD = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a small trained checkpoint")
    parser.add_argument("--shapes", nargs="*", choices=sorted(RECIPES), default=["gpt-neo-125m"])
    parser.add_argument(
        "--only", default="", metavar="NAME", help="models with this in their names; others keep results"
    )
    parser.add_argument("--formats", nargs="*", choices=list(FORMATS), default=list(FORMATS))
    args = parser.parse_args()
    rows = (earlier_results("grades") or {"models": {}})["models"] if args.only else {}
    with tempfile.TemporaryDirectory() as folder:
        for name, checkpoint in checkpoints(args, Path(folder)):
            if args.only in name:
                print(name, flush=True)
                row = rows.setdefault(name, {"formats": {}})
                row["structure"] = structure(checkpoint)
                for quantization in args.formats:
                    row["formats"][quantization] = export_one(checkpoint, Path(folder) / "bundle", quantization)
                write_results("grades", {"models": rows})
            if checkpoint != args.checkpoint:
                shutil.rmtree(checkpoint)


# Models


def checkpoints(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and checkpoints, each made when the one before is done with."""
    from transformers import GPTNeoForCausalLM

    yield args.checkpoint.name, args.checkpoint
    trained = GPTNeoForCausalLM.from_pretrained(args.checkpoint)

    def save(name: str, model: Any) -> tuple[str, Path]:
        model.save_pretrained(folder / "model")
        for file in args.checkpoint.glob("tokenizer*.json"):
            shutil.copyfile(file, folder / "model" / file.name)
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
        shapes.make(shape, folder / "model", query_range=shapes.INITIALIZER_RANGE)
        yield f"{shape}, as transformers initializes it", folder / "model"


@torch.no_grad()
def with_scores(model: Any, factor: float) -> Any:
    """The model with queries ``factor`` times as large: attention picks fewer keys."""
    scaled = copy.deepcopy(model)
    for block in scaled.transformer.h:
        block.attn.attention.q_proj.weight *= factor
    return scaled


# What an export says


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


# Faults


def structure(checkpoint: Path) -> dict[str, Any]:
    """The largest error of the sound graph and of each faulty one, in units of torch's own float32 error."""
    source = Checkpoint(checkpoint)
    spec = read_spec({"model": model_section(source)})
    texts = Texts(Tokenizer.from_file(checkpoint / "tokenizer.json"), source.config)
    ids = compared_tokens(texts.golden, spec)
    answers = list(Reference(source).parts(ids, last=COMPARED_LOGITS))
    graph = decoder_graph(source)
    found = {}
    bias = functools.partial(other_bias, spread=source.config.initializer_range)
    for name, seed in {"sound": lambda _: None, **FAULTS, "a bias dropped or added": bias}.items():
        faulty = graph.clone()
        seed(faulty)
        measured = measure_structure(answers, faulty, spec, ids, Silent())
        found[name] = {"largest_error": measured.largest, "refused": refused(lambda m=measured: m.check(spec))}
        print(f"  {name}: {measured.largest:.3g}", flush=True)
    return found


def refused(check: Callable[[], None]) -> bool:
    try:
        check()
    except VerificationError:
        return True
    return False


def wider_window(graph: ir.Model) -> None:
    for attention, window in local_attentions(graph):
        attention.attributes.add(ir.AttrInt64("local_window_size", window + 1))


def scaled_scores(graph: ir.Model) -> None:
    for attention in nodes(graph.graph, "GroupQueryAttention"):
        head_dim = attention.inputs[3].shape[3]  # type: ignore[union-attr, index]
        attention.attributes.add(ir.AttrFloat32("scale", int(head_dim) ** -0.5))  # type: ignore[arg-type]


def other_kind(graph: ir.Model) -> None:
    attention, _ = next(local_attentions(graph))
    attention.attributes.add(ir.AttrInt64("local_window_size", -1))


def other_bias(graph: ir.Model, spread: float) -> None:
    """The first out_proj has no bias; or where it was zero, as in a fresh model, one of the weights' size."""
    linear = next(node for node in nodes(graph.graph, "Gemm") if "out_proj" in name_of(node.inputs[1]))
    value = linear.inputs[2]
    bias = weight_of(value).numpy()
    other = np.zeros_like(bias) if np.any(bias) else np.full_like(bias, spread)
    value.const_value = ir.tensor(other, name=name_of(value))  # type: ignore[union-attr]


def local_attentions(graph: ir.Model) -> Iterator[tuple[ir.Node, int]]:
    for attention in list(nodes(graph.graph, "GroupQueryAttention")):
        window = attention.attributes["local_window_size"].as_int()
        if window > 0:
            yield attention, window


FAULTS: dict[str, Callable[[ir.Model], None]] = {
    "window one key wider": wider_window,
    "scores over sqrt(head_dim)": scaled_scores,
    "a local layer made global": other_kind,
}


if __name__ == "__main__":
    main()
