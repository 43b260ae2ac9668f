"""Does the comparison of each layer with torch tell a faulty graph from a sound one? Faults, seeded into a graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from neort.bundle import read_spec
from neort.tokenizer import Tokenizer
from neort_export import VerificationError
from neort_export.bundle import model_section
from neort_export.checkpoint import Checkpoint
from neort_export.graph import decoder_graph, name_of, nodes
from neort_export.graph.rewrite import weight_of
from neort_export.progress import Silent
from neort_export.reference import Reference
from neort_export.verification.structure import COMPARED_LOGITS, compared_tokens, measure_structure
from neort_export.verification.texts import Texts

__all__ = ["measure_faults"]


def measure_faults(checkpoint: Path) -> dict[str, Any]:
    """The largest error of the sound graph and of each faulty one, in units of torch's own float32 error."""
    source = Checkpoint(checkpoint)
    spec = read_spec({"model": model_section(source)})
    texts = Texts(Tokenizer.from_file(checkpoint / "tokenizer.json"), source.config)
    ids = compared_tokens(texts.golden, spec)
    answers = list(Reference(source).parts(ids, last=COMPARED_LOGITS))
    graph = decoder_graph(source)
    found = {}
    seeds: dict[str, Callable[[ir.Model], None]] = {
        "sound": lambda _: None,
        **FAULTS,
        "a bias dropped or added": functools.partial(
            other_bias, module=source.architecture.names.attention_output, spread=source.config.initializer_range
        ),
    }
    for name, seed in seeds.items():
        faulty = graph.clone()
        seed(faulty)
        measured = measure_structure(answers, faulty, spec, ids, Silent())
        found[name] = {"largest_error": measured.largest, "refused": refused(functools.partial(measured.check, spec))}
        print(f"  {name}: {measured.largest:.3g}", flush=True)
    return found


def refused(check: Callable[[], object]) -> bool:
    """Whether a check raises VerificationError."""
    try:
        check()
    except VerificationError:
        return True
    return False


def wider_window(graph: ir.Model) -> None:
    """Local layers see one key more."""
    for attention, window in local_attentions(graph):
        attention.attributes.add(ir.AttrInt64("local_window_size", window + 1))


def scaled_scores(graph: ir.Model) -> None:
    """Scores are divided by sqrt(head_dim), which GPT-Neo does not do."""
    for attention in nodes(graph.graph, "GroupQueryAttention"):
        head_dim = attention.inputs[3].shape[3]  # type: ignore[union-attr, index]
        attention.attributes.add(ir.AttrFloat32("scale", int(head_dim) ** -0.5))  # type: ignore[arg-type]


def other_kind(graph: ir.Model) -> None:
    """The first local layer sees everything."""
    attention, _ = next(local_attentions(graph))
    attention.attributes.add(ir.AttrInt64("local_window_size", -1))


def other_bias(graph: ir.Model, module: str, spread: float) -> None:
    """The first ``module`` has no bias; or where it was zero, as in a fresh model, one of the weights' size."""
    linear = next(node for node in nodes(graph.graph, "Gemm") if module in name_of(node.inputs[1]))
    value = linear.inputs[2]
    bias = weight_of(value).numpy()
    other = np.zeros_like(bias) if np.any(bias) else np.full_like(bias, spread)
    value.const_value = ir.tensor(other, name=name_of(value))  # type: ignore[union-attr]


def local_attentions(graph: ir.Model) -> Iterator[tuple[ir.Node, int]]:
    """The attention of each local layer, and its window."""
    for attention in list(nodes(graph.graph, "GroupQueryAttention")):
        window = attention.attributes["local_window_size"].as_int()
        if window > 0:
            yield attention, window


FAULTS: dict[str, Callable[[ir.Model], None]] = {
    "window one key wider": wider_window,
    "scores over sqrt(head_dim)": scaled_scores,
    "a local layer made global": other_kind,
}
