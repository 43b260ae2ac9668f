"""The traced graph: its inputs, its outputs, its attention, and that no weight is loaded for it."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx_ir as ir
import pytest

from checkpoints import WINDOW, random_model
from neort_export.checkpoint import Checkpoint
from neort_export.graph.trace import OPSET, trace


@pytest.fixture(scope="module")
def traced(checkpoint: Path) -> ir.Model:
    return trace(Checkpoint(checkpoint).config)


def attentions(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "GroupQueryAttention"]


def test_inputs_and_outputs_carry_the_field_s_names_and_shapes(traced: ir.Model) -> None:
    cache = [f"{i}.{kind}" for i in range(2) for kind in ("key", "value")]
    assert [v.name for v in traced.graph.inputs] == [
        "input_ids",
        "position_ids",
        "seqlens_k",
        "total_sequence_length",
        "local_seqlens_k",
        "local_total_sequence_length",
        *(f"past_key_values.{name}" for name in cache),
    ]
    assert [v.name for v in traced.graph.outputs] == ["logits", *(f"present.{name}" for name in cache)]
    shapes = {
        v.name: [str(d) if isinstance(d, ir.SymbolicDim) else d for d in v.shape or ()] for v in traced.graph.inputs
    }
    assert shapes["input_ids"] == shapes["position_ids"] == ["batch_size", "sequence_length"]
    assert shapes["past_key_values.1.value"] == ["batch_size", 4, "cache_length", 8]
    for prefix in ("", "local_"):
        assert (shapes[f"{prefix}seqlens_k"], shapes[f"{prefix}total_sequence_length"]) == (["batch_size"], [])


def test_initializers_are_the_checkpoint_s_tensors_without_values(traced: ir.Model, checkpoint: Path) -> None:
    named = {name: v for name, v in traced.graph.initializers.items() if v.const_value is None or len(v.shape or ())}
    expected = Checkpoint(checkpoint).expected_shapes()
    expected["lm_head.weight"] = expected.pop("transformer.wte.weight")  # tied: one tensor, one name
    assert {name: tuple(v.shape or ()) for name, v in named.items()} == expected


@pytest.mark.parametrize(
    ("layers", "windows"),
    [(("global", "local"), [-1, WINDOW]), (("local", "local", "global"), [WINDOW, WINDOW, -1])],
)
def test_attention_is_unscaled_and_local_layers_have_the_window(layers: tuple[str, ...], windows: list[int]) -> None:
    nodes = attentions(trace(random_model(layers=layers).config))
    attributes = [{name: a.value for name, a in node.attributes.items()} for node in nodes]
    assert [a["local_window_size"] for a in attributes] == windows
    assert {a["scale"] for a in attributes} == {1.0}
    assert {(a["num_heads"], a["kv_num_heads"], a["do_rotary"]) for a in attributes} == {(4, 4, 0)}


def test_the_graph_says_which_opsets_it_needs(traced: ir.Model) -> None:
    assert traced.opset_imports == {"": OPSET, "com.microsoft": 1}


def test_tracing_leaves_torch_s_logger_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    with caplog.at_level(logging.WARNING):
        trace(random_model(layers=("global",)).config)
    assert logger.level == before
    assert [r.getMessage() for r in caplog.records if r.name.startswith("torch.onnx")] == []
