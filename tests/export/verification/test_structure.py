"""Whether a graph computes what torch computes: sound models of every kind pass, and structural faults never do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from transformers import GPTNeoForCausalLM

from benchmarks.checkpoints.outliers import with_outliers
from checkpoints import initializer, random_ids, random_model, save
from neort.bundle import FORMATS, Quantization, read_spec
from neort_export import VerificationError, export, exporter, verify
from neort_export.bundle import model_section
from neort_export.checkpoint import Checkpoint
from neort_export.graph import decoder_graph, nodes
from neort_export.progress import Silent
from neort_export.reference import Reference
from neort_export.verification.structure import (
    COMPARED_LOGITS,
    LIMIT,
    Structure,
    check_attention,
    compared_tokens,
    measure_structure,
)

Doubles = NDArray[np.float64]

SOUND = LIMIT / 4  # rounding stays well below the limit
FAULTY = LIMIT * 2  # and faults above it, even where a bias is hardly more than rounding


def _times(model: GPTNeoForCausalLM, name: str, factor: float) -> GPTNeoForCausalLM:
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        for key, parameter in scaled.named_parameters():
            if name in key:
                parameter.mul_(factor)
    return scaled


def _chaotic() -> GPTNeoForCausalLM:
    """Weights so large that float32 errors grow from layer to layer until nothing is left of the logits."""
    model = random_model(layers=("global", "local") * 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    return model


MODELS: dict[str, Callable[[], GPTNeoForCausalLM]] = {
    "calm": random_model,
    "outliers of 300": lambda: with_outliers(random_model(), factor=300.0, shift=60.0),
    "attention to single keys": lambda: _times(random_model(), "q_proj", 100.0),
    "chaotic": _chaotic,
    "odd sizes": lambda: random_model(hidden_size=72, num_heads=3, layers=("local", "global", "local")),
    "hidden states of 1e4": lambda: _times(random_model(), "wte", 1e4),
}


def _set(graph: ir.Model, name: str, change: Callable[[ir.Attr], ir.Attr]) -> None:
    for attention in nodes(graph.graph, "GroupQueryAttention"):
        attention.attributes.add(change(attention.attributes[name]))


def wider_window(graph: ir.Model) -> None:
    """Local layers see one key more."""
    _set(graph, "local_window_size", lambda a: ir.AttrInt64(a.name, a.as_int() + (a.as_int() > 0)))


def narrower_window(graph: ir.Model) -> None:
    """Local layers see one key fewer."""
    _set(graph, "local_window_size", lambda a: ir.AttrInt64(a.name, a.as_int() - (a.as_int() > 0)))


def scaled_scores(graph: ir.Model) -> None:
    """Scores are divided by the root of the head's width."""
    _set(graph, "scale", lambda a: ir.AttrFloat32(a.name, 8**-0.5))


def swapped_kinds(graph: ir.Model) -> None:
    """The first local layer sees everything."""
    for attention in nodes(graph.graph, "GroupQueryAttention"):
        if attention.attributes["local_window_size"].as_int() > 0:
            attention.attributes.add(ir.AttrInt64("local_window_size", -1))
            return


def dropped_bias(graph: ir.Model) -> None:
    """One out_proj has no bias."""
    name, bias = next((n, v) for n, v in graph.graph.initializers.items() if n.endswith("out_proj.bias"))
    bias.const_value = ir.tensor(np.zeros_like(initializer(graph.graph, name)), name=name)


FAULTS = (wider_window, narrower_window, scaled_scores, swapped_kinds, dropped_bias)


class Case:
    """A checkpoint, its fp32 graph, and torch's answers."""

    def __init__(self, folder: Path) -> None:
        checkpoint = Checkpoint(folder)
        self.graph = decoder_graph(checkpoint)
        self.spec = read_spec({"model": model_section(checkpoint)})
        self._ids = compared_tokens(random_ids(120).tolist(), self.spec)
        self._answers = list(Reference(checkpoint).parts(self._ids, last=COMPARED_LOGITS))

    def structure(self, graph: ir.Model) -> Structure:
        return measure_structure(self._answers, graph, self.spec, self._ids, Silent())


@pytest.fixture(scope="module", params=MODELS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(save(MODELS[request.param](), tmp_path_factory.mktemp("structure") / "checkpoint"))


def test_a_sound_graph_is_as_near_as_rounding(case: Case) -> None:
    found = case.structure(case.graph)
    assert 0 < found.largest < SOUND
    assert len(found.errors) == case.spec.num_layers + 2
    found.check(case.spec)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_structural_fault_is_beyond_rounding(fault: Callable[[ir.Model], None], case: Case) -> None:
    faulty = case.graph.clone()
    fault(faulty)
    found = case.structure(faulty)
    assert found.largest > FAULTY
    with pytest.raises(VerificationError, match=r"^layer \d \((global|local)\) of the graph"):
        found.check(case.spec)


@pytest.mark.parametrize("quantization", list(FORMATS))
def test_no_format_of_a_faulty_graph_is_written(
    quantization: Quantization, checkpoint: Path, graph: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = graph.clone()
    wider_window(faulty)
    monkeypatch.setattr(exporter, "decoder_graph", lambda _: faulty.clone())
    with pytest.raises(VerificationError, match=r"another function than the checkpoint.*No bundle was written"):
        export(checkpoint, tmp_path / "bundle", quantization=quantization)
    assert list(tmp_path.iterdir()) == []


def test_a_window_shows_on_any_text(
    checkpoint: Path, graph: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short text of the user's own does not reach the window's edge; the comparison does."""
    faulty = graph.clone()
    wider_window(faulty)
    monkeypatch.setattr(exporter, "decoder_graph", lambda _: faulty.clone())
    with pytest.raises(VerificationError, match="another function than the checkpoint"):
        export(checkpoint, tmp_path / "bundle", text="Hello world")


def test_a_bundle_of_another_checkpoint_is_noticed(checkpoint: Path, tmp_path: Path) -> None:
    other = save(random_model(seed=5), tmp_path / "other")
    bundle = export(other, tmp_path / "bundle", verify=False).path
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    with pytest.raises(VerificationError, match="Give the checkpoint that bundle was made of"):
        verify(bundle, checkpoint)
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before


@pytest.mark.parametrize("fault", [wider_window, scaled_scores, swapped_kinds])
def test_attention_that_changes_after_the_comparison_is_noticed(
    fault: Callable[[ir.Model], None], graph: ir.Model
) -> None:
    check_attention(graph.clone(), graph)
    changed = graph.clone()
    fault(changed)
    with pytest.raises(VerificationError, match="other windows, heads or scales"):
        check_attention(changed, graph)


def test_torch_s_float64_answer_is_one(checkpoint: Path) -> None:
    """transformers converts queries and keys to float32; numpy says what the layer gives without that."""
    source = Checkpoint(checkpoint)
    ids = random_ids(40).tolist()
    embedding, first, *_ = Reference(source).parts(ids, last=4)
    weights = {name: source.tensor(name).double().numpy() for name in source.expected_shapes()}
    np.testing.assert_array_equal(embedding.exact.astype(np.float32), first.hidden)
    expected = _layer(first.hidden.astype(np.float64), weights, source)
    np.testing.assert_allclose(first.exact, expected, rtol=0, atol=1e-12)
    assert 1e-9 < first.rounding.max() < 1e-5


def _layer(x: Doubles, weights: dict[str, Doubles], source: Checkpoint) -> Doubles:
    """A global layer of GPT-Neo in float64."""

    def w(name: str) -> Doubles:
        return weights[f"transformer.h.0.{name}"]

    def norm(h: Doubles, name: str) -> Doubles:
        centred = h - h.mean(-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(-1, keepdims=True) + source.config.layer_norm_epsilon)
        normed: Doubles = centred / deviation * w(f"{name}.weight") + w(f"{name}.bias")
        return normed

    heads = source.config.num_heads
    h = norm(x, "ln_1")
    q, k, v = (
        (h @ w(f"attn.attention.{p}_proj.weight").T).reshape(len(x), heads, -1).transpose(1, 0, 2) for p in "qkv"
    )
    scores = np.where(np.tri(len(x), dtype=bool), q @ k.transpose(0, 2, 1), -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (shares / shares.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(x), -1)
    x = x + mixed @ w("attn.attention.out_proj.weight").T + w("attn.attention.out_proj.bias")
    inner = norm(x, "ln_2") @ w("mlp.c_fc.weight").T + w("mlp.c_fc.bias")
    inner = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    output: Doubles = x + inner @ w("mlp.c_proj.weight").T + w("mlp.c_proj.bias")
    return output
