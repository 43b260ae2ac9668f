"""Heads of a width that onnxruntime does not take: zeros after each, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from checkpoints import Floats, initializer
from neort.bundle import Quantization
from neort_export import Report
from neort_export.architectures import stored_head_dim
from neort_export.checkpoint import Checkpoint
from neort_export.graph.passes import PadHeads

HEADS, HEAD_DIM, STORED = 3, 12, 16  # of the fixture's GPT-2
HIDDEN = HEADS * HEAD_DIM
LAYER = "transformer.h.1."


@pytest.mark.parametrize(("width", "stored"), [(1, 8), (4, 8), (8, 8), (12, 16), (20, 24), (64, 64), (100, 104)])
def test_heads_are_stored_in_the_next_multiple_of_8(width: int, stored: int) -> None:
    assert stored_head_dim(width) == stored


def test_heads_of_a_width_that_onnxruntime_takes_stay_as_they_are(graph: ir.Model, checkpoint: Path) -> None:
    before = ir.to_proto(graph.clone()).SerializeToString()
    changed = graph.clone()
    assert not PadHeads(Checkpoint(checkpoint).dimensions)(changed).modified
    assert ir.to_proto(changed).SerializeToString() == before


@pytest.fixture(scope="module")
def padded(gpt2_exports: Callable[[Quantization], Report]) -> ir.Model:
    return ir.load(gpt2_exports("fp32").path / "decoder.onnx")


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_each_head_of_query_key_and_value_ends_in_rows_of_zeros(
    part: str, padded: ir.Model, gpt2_checkpoint: Path
) -> None:
    name = f"{LAYER}attn.c_attn.{part}"
    stored = _heads(initializer(padded.graph, name), STORED)
    np.testing.assert_array_equal(stored[:, HEAD_DIM:], 0)
    own = Checkpoint(gpt2_checkpoint).rows(name)
    np.testing.assert_array_equal(stored[:, :HEAD_DIM], _heads(own, HEAD_DIM))


def test_the_output_projection_has_columns_of_zeros_for_them(padded: ir.Model, gpt2_checkpoint: Path) -> None:
    name = f"{LAYER}attn.c_proj.weight"
    stored = _heads(initializer(padded.graph, name).T, STORED)
    np.testing.assert_array_equal(stored[:, HEAD_DIM:], 0)
    np.testing.assert_array_equal(stored[:, :HEAD_DIM], _heads(Checkpoint(gpt2_checkpoint).rows(name).T, HEAD_DIM))


def test_scores_are_scaled_by_the_heads_own_width(padded: ir.Model) -> None:
    attentions = [node for node in padded.graph if node.op_type == "GroupQueryAttention"]
    scales = [node.attributes["scale"].as_float() for node in attentions]
    np.testing.assert_allclose(scales, [HEAD_DIM**-0.5, HEAD_DIM**-0.5 / 2], rtol=1e-7)


@pytest.mark.parametrize("quantization", ["int8", "int8-block", "int4"])
def test_keys_and_values_beyond_the_heads_own_are_zeros_in_every_format(
    quantization: Quantization, gpt2_exports: Callable[[Quantization], Report]
) -> None:
    """But for the last bits of products in blocks; so an int8 cache has tiny scales for these channels."""
    graph = ir.load(gpt2_exports(quantization).path / "decoder_int8_cache.onnx").graph
    bias = _heads(initializer(graph, f"{LAYER}attn.c_attn.bias"), STORED)
    np.testing.assert_array_equal(bias[:, HEAD_DIM:], 0)
    for part in ("key", "value"):
        scales = initializer(graph, f"1.{part}_scale").reshape(HEADS, STORED)
        assert (scales[:, :HEAD_DIM] > 1e-4).all()
        assert (scales[:, HEAD_DIM:] < 1e-5).all()


def test_a_portable_graph_takes_an_empty_past_of_the_checkpoint_s_width(
    gpt2_exports: Callable[[Quantization], Report],
) -> None:
    """That is what programs make of config.json; the past that it returns is as wide as the graph's."""
    graph = ir.load(gpt2_exports("fp32").path / "model.onnx").graph
    past = [value.shape for value in graph.inputs[3:]]
    assert {str(shape[3]) for shape in past if shape} == {"head_dim"}
    assert {shape[3] for shape in (value.shape for value in graph.outputs[1:]) if shape} == {STORED}


def _heads(rows: Floats, width: int) -> Floats:
    """Rows [heads * width, ...] by head."""
    return rows.reshape(-1, width, *rows.shape[1:])
