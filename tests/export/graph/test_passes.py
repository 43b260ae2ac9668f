"""Each rewrite of the traced graph: what it changes, and that the numbers stay."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx_ir.passes.common import RemoveUnusedNodesPass
from transformers import GPTNeoForCausalLM

from checkpoints import POSITIONS, Floats, Ids, initializer, random_ids, random_model, save, torch_logits, weight
from neort.backend import open_session, session_options
from neort.bundle import BLOCKS_OF_4_BITS, BLOCKS_OF_8_BITS
from neort_export.architectures import GPTNeo
from neort_export.bundle import write_graph
from neort_export.checkpoint import Checkpoint
from neort_export.errors import ExportError
from neort_export.graph.passes import (
    BindWeights,
    FlattenTokens,
    FoldOutliers,
    FuseGelu,
    FuseGeluBias,
    FuseLinears,
    KeepLastLogits,
    PackQKV,
    PadRows,
    QuantizeBlocks,
    QuantizeEmbedding,
    QuantizeLinears,
)
from neort_export.graph.rewrite import Rewrite
from neort_export.graph.trace import trace
from neort_export.quantization.blockwise import BlockFormat
from neort_export.reference import ChannelRange, Reference, calibrate

HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
RNG = np.random.default_rng(0)
Arrays = dict[str, np.ndarray[Any, Any]]


def parsed(text: str, **weights: Floats) -> ir.Model:
    """A model in ONNX's text syntax; those of its inputs that have a value here become weights."""
    model = ir.from_onnx_text(HEADER + text)
    for value in [v for v in model.graph.inputs if v.name in weights]:
        model.graph.inputs.remove(value)
        value.const_value = weight(weights[str(value.name)].astype(np.float32))
        value.const_value.name = value.name
        model.graph.register_initializer(value)
    return model


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph if node.op_type != "Constant")


def execute(model: ir.Model, feeds: Arrays, folder: Path | None = None) -> Floats:
    """The graph's first output; its weights go through files where ``folder`` is given."""
    options = ort.SessionOptions()
    exact = session_options(1, b"MatMulIntegerToFloat")  # with its products unsigned, where others saturate
    saturates = exact.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if saturates and any(node.op_type == "MatMulIntegerToFloat" for node in model.graph):
        options = exact
    else:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    if folder is None:
        serialized = ir.to_proto(model).SerializeToString()
        session = ort.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    else:
        write_graph(model, folder, "model.onnx")
        session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    output: Floats = session.run(None, feeds)[0]
    return output


def applied(model: ir.Model, *passes: Rewrite) -> ir.Model:
    for rewrite in (*passes, RemoveUnusedNodesPass()):
        rewrite(model)
    return model


def normal(*shape: int) -> Floats:
    return RNG.normal(size=shape).astype(np.float32)


# Minimal graphs


GELU = """
gelu (float[n] x) => (float[n] y) {
  half = Constant <value_float = 0.5> ()
  three = Constant <value_float = 3.0> ()
  cubic = Constant <value_float = 0.044715> ()
  root = Constant <value_float = 0.7978845608028654> ()
  one = Constant <value_float = 1.0> ()
  halved = Mul (x, half)
  cube = Pow (x, three)
  small = Mul (cube, cubic)
  inner = Add (x, small)
  scaled = Mul (inner, root)
  tanh = Tanh (scaled)
  raised = Add (tanh, one)
  y = Mul (halved, raised)
}
"""


@pytest.mark.parametrize(
    "text",
    [GELU, GELU.replace("Mul (x, half)", "Mul (half, x)").replace("(halved, raised)", "(raised, halved)")],
    ids=["as traced", "operands swapped"],
)
def test_gelu_new_becomes_one_node_of_equal_value(text: str) -> None:
    x = np.linspace(-6, 6, 1001, dtype=np.float32)
    model = parsed(text)
    before = execute(model, {"x": x})
    assert operators(applied(model, FuseGelu())) == {"FastGelu": 1}
    np.testing.assert_allclose(execute(model, {"x": x}), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("other", [("0.044715", "0.05"), ("0.797884", "0.8"), ("Tanh", "Sigmoid")])
def test_a_function_that_is_not_gelu_new_is_left_alone(other: tuple[str, str]) -> None:
    model = parsed(GELU.replace(*other))
    before = operators(model)
    assert operators(applied(model, FuseGelu())) == before


def test_the_bias_before_gelu_becomes_its_input_with_the_same_bits() -> None:
    text = """
    biased (float[m, 24] x, float[24] bias) => (float[m, 24] y) {
      z = Add (x, bias)
      y = com.microsoft.FastGelu (z)
    }
    """
    model = parsed(text, bias=normal(24))
    feeds = {"x": 3 * normal(50, 24)}
    before = execute(model, feeds)
    assert operators(applied(model, FuseGeluBias())) == {"FastGelu": 1}
    np.testing.assert_array_equal(execute(model, feeds), before)


def test_a_sum_of_two_computed_values_before_gelu_is_left_alone() -> None:
    text = """
    sums (float[m, 24] x, float[m, 24] z) => (float[m, 24] y) {
      s = Add (x, z)
      y = com.microsoft.FastGelu (s)
    }
    """
    assert operators(applied(parsed(text), FuseGeluBias())) == {"Add": 1, "FastGelu": 1}


ATTENTION = """
attention (float[b, s, 16] x, float[16, 16] h.attn.attention.q_proj.weight,
           float[16, 16] h.attn.attention.k_proj.weight, float[16, 16] h.attn.attention.v_proj.weight,
           float[b, 2, m, 8] past_key, float[b, 2, m, 8] past_value,
           int32[b] seqlens_k, int32 total) => (float[b, s, 16] y) {
  tq = Transpose <perm = [1, 0]> ("h.attn.attention.q_proj.weight")
  tk = Transpose <perm = [1, 0]> ("h.attn.attention.k_proj.weight")
  tv = Transpose <perm = [1, 0]> ("h.attn.attention.v_proj.weight")
  q = MatMul (x, tq)
  k = MatMul (x, tk)
  v = MatMul (x, tv)
  y, present_key, present_value = com.microsoft.GroupQueryAttention <num_heads = 2, kv_num_heads = 2, scale = 1.0>
      (q, k, v, past_key, past_value, seqlens_k, total)
}
"""


def attention(text: str = ATTENTION) -> ir.Model:
    text = re.sub(r"(?<=\] )h[\w.]+\.weight", lambda name: f'"{name.group()}"', text)
    return parsed(text, **{f"h.attn.attention.{p}_proj.weight": normal(16, 16) for p in "qkv"})


def test_query_key_and_value_become_one_product_of_equal_value() -> None:
    past = np.zeros((1, 2, 8, 8), np.float32)
    feeds = {"x": normal(1, 5, 16), "past_key": past, "past_value": past.copy()}
    feeds |= {"seqlens_k": np.array([4], np.int32), "total": np.array(5, np.int32)}
    model = attention()
    before = execute(model, feeds)
    parts = [initializer(model.graph, f"h.attn.attention.{p}_proj.weight") for p in "qkv"]
    assert operators(applied(model, PackQKV(GPTNeo()))) == {"Transpose": 1, "MatMul": 1, "GroupQueryAttention": 1}
    packed = initializer(model.graph, "h.attn.attention.qkv_proj.weight")
    np.testing.assert_array_equal(packed, np.concatenate(parts))
    np.testing.assert_allclose(execute(model, feeds), before, rtol=0, atol=1e-5)


def test_a_product_that_a_model_has_packed_itself_is_left_alone() -> None:
    model = applied(attention(), PackQKV(GPTNeo()))
    before = operators(model)
    assert operators(applied(model, PackQKV(GPTNeo()))) == before


def test_products_of_different_inputs_are_not_packed() -> None:
    model = attention(ATTENTION.replace("v = MatMul (x, tv)", "x2 = Neg (x)\n  v = MatMul (x2, tv)"))
    with pytest.raises(ExportError, match="PackQKV found 0 places"):
        PackQKV(GPTNeo())(model)


LINEAR = """
linear (float[m, 6] x, float[4, 6] w, float[4] b, float[m, 4] r) => (float[m, 4] y) {
  t = Transpose <perm = [1, 0]> (w)
  p = MatMul (x, t)
  y = BODY
}
"""


@pytest.mark.parametrize(
    ("body", "expected", "inputs"),
    [
        ("Add (p, b)", {"Gemm": 1}, 3),
        ("Add (b, p)", {"Gemm": 1}, 3),
        ("Add (p, r)", {"Gemm": 1, "Add": 1}, 2),
        ("Mul (p, b)", {"Gemm": 1, "Mul": 1}, 2),
        ("Add (p, p)", {"Gemm": 1, "Add": 1}, 2),
    ],
    ids=["bias", "bias first", "residual", "no sum", "sum with itself"],
)
def test_a_linear_layer_becomes_one_gemm_of_equal_value(body: str, expected: dict[str, int], inputs: int) -> None:
    model = parsed(LINEAR.replace("BODY", body), w=normal(4, 6), b=normal(4))
    feeds = {"x": normal(3, 6), "r": normal(3, 4)}
    before = execute(model, feeds)
    assert operators(applied(model, FuseLinears())) == expected
    gemm = next(node for node in model.graph if node.op_type == "Gemm")
    assert len(gemm.inputs) == inputs
    np.testing.assert_allclose(execute(model, feeds), before, rtol=1e-5, atol=1e-6)


GEMM = """
gemm (float[m, 24] x, float[10, 24] "h.weight", float[10] b) => (float[m, 10] y) {
  y = Gemm <transB = 1> (x, "h.weight", b)
}
"""
GEMM_AFTER_GELU = GEMM.replace("  y =", "  g = com.microsoft.FastGelu (x)\n  y =").replace('(x, "h', '(g, "h')


def quantized_gemm(text: str, weights: Floats, bias: Floats, zero_point: int = 16) -> ir.Model:
    return applied(parsed(text, **{"h.weight": weights, "b": bias}), QuantizeLinears(zero_point))


@pytest.mark.parametrize("text", [GEMM, GEMM_AFTER_GELU], ids=["symmetric", "after gelu"])
def test_a_row_of_zeros_gives_the_bias(text: str) -> None:
    bias = normal(10)
    x = normal(3, 24)
    x[1] = 0
    y = execute(quantized_gemm(text, normal(10, 24), bias), {"x": x})
    np.testing.assert_array_equal(y[1], bias)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("text", [GEMM, GEMM_AFTER_GELU], ids=["symmetric", "after gelu"])
def test_a_quantized_row_does_not_depend_on_its_neighbours(text: str) -> None:
    """Bit for bit: alone, beside large rows, beside zeros, at any place."""
    model = quantized_gemm(text, normal(10, 24), normal(10))
    row = normal(1, 24)
    alone = execute(model, {"x": row})[0]
    for others in (np.zeros((6, 24), np.float32), 1e6 * normal(6, 24), 1e-6 * normal(6, 24)):
        for place in (0, 3, 6):
            together = execute(model, {"x": np.insert(others, place, row[0], axis=0)})
            assert together[place].tobytes() == alone.tobytes()


@pytest.mark.parametrize("zero_point", [16, 128])
@pytest.mark.parametrize("text", [GEMM, GEMM_AFTER_GELU], ids=["symmetric", "after gelu"])
def test_a_quantized_product_is_within_half_a_step_of_each_operand(text: str, zero_point: int) -> None:
    """Every product errs by at most |x| sw/2 + |w| sx/2 + sx sw/4, s being the steps of operand and weight."""
    weights, bias, x = normal(10, 24), normal(10), normal(7, 24) * np.float32(3)
    x[:, 0] = np.linspace(-2, 2, 7)
    after_gelu = text is GEMM_AFTER_GELU
    operand = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) if after_gelu else x
    operand = operand.astype(np.float64)
    if after_gelu and zero_point != 128:
        step = np.maximum(operand.max(1) / (255 - zero_point), 0.17004 / zero_point)
    else:
        step = np.abs(operand).max(1) / 127
    weight_step = np.abs(weights).max(1) / 127
    bound = (
        np.abs(operand).sum(1)[:, None] * weight_step / 2
        + step[:, None] / 2 * np.abs(weights).sum(1)
        + 24 * step[:, None] * weight_step / 4
    )
    error = execute(quantized_gemm(text, weights, bias, zero_point), {"x": x}) - (operand @ weights.T + bias)
    assert (np.abs(error) <= bound * 1.001 + 1e-5).all()
    assert np.abs(error).max() > 0


def test_values_after_gelu_use_a_low_zero_point_and_lose_less() -> None:
    """239 instead of 127 steps above zero: about half the error on positive values, besides the weights' own."""
    weights = np.rint(64 * normal(64, 24)).clip(-126, 126).astype(np.float32)
    weights[:, 0] = 127  # integers under a scale of 1: the weights lose nothing
    x = 3 * np.abs(normal(50, 24))
    gelu = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    text = GEMM_AFTER_GELU.replace("10", "64")
    low, middle = (
        float(
            np.std(execute(quantized_gemm(text, weights, np.zeros(64, np.float32), zero), {"x": x}) - gelu @ weights.T)
        )
        for zero in (16, 128)
    )
    assert low < 0.65 * middle


def test_consumers_of_one_value_share_its_quantization() -> None:
    text = """
    two (float[m, 24] x, float[10, 24] "a.weight", float[10, 24] "b.weight") => (float[m, 10] y) {
      a = Gemm <transB = 1> (x, "a.weight")
      b = Gemm <transB = 1> (x, "b.weight")
      y = Sub (a, b)
    }
    """
    model = applied(parsed(text, **{"a.weight": normal(10, 24), "b.weight": normal(10, 24)}), QuantizeLinears())
    counts = operators(model)
    assert (counts["QuantizeLinear"], counts["MatMulIntegerToFloat"], counts["Gemm"]) == (1, 2, 0)
    assert "a.weight" not in model.graph.initializers


EMBEDDING = """
embedding (int64[b, s] ids, float[50, 8] "transformer.wte.weight") => (float[b, s, 8] y) {
  y = Gather <axis = 0> ("transformer.wte.weight", ids)
}
"""


def test_a_quantized_embedding_errs_by_half_a_step_of_its_own_row() -> None:
    table = normal(50, 8) * np.logspace(-6, 6, 50)[:, None].astype(np.float32)
    table[7] = 0
    model = applied(parsed(EMBEDDING, **{"transformer.wte.weight": table}), QuantizeEmbedding())
    assert operators(model) == {"Gather": 2, "Cast": 1, "Mul": 1}
    assert {v.dtype for v in model.graph.initializers.values()} == {ir.DataType.INT8, ir.DataType.FLOAT}
    ids = np.arange(50)[None]
    error = np.abs(execute(model, {"ids": ids})[0] - table)
    assert (error <= np.abs(table).max(1, keepdims=True) / 127 * 0.5001).all()
    assert not error[7].any()


FOLDABLE = """
norm (float[m, 12] x, float[12] g, float[12] b, float[5, 12] "h.c_fc.weight", float[5] c) => (float[m, 5] y) {
  n = LayerNormalization <axis = -1, epsilon = 0.00001> (x, g, b)
  y = Gemm <transB = 1> (n, "h.c_fc.weight", c)
}
"""


@pytest.mark.parametrize("bias", [True, False])
def test_folding_moves_large_and_shifted_channels_and_keeps_the_function(bias: bool) -> None:
    gamma, beta, weights = normal(12), normal(12), normal(5, 12)
    gamma[2], beta[5] = 60, 12
    gamma[8], beta[8], weights[:, 9] = 0, 3, 0  # a constant channel, and one that nothing reads
    arrays = {"g": gamma, "b": beta, "h.c_fc.weight": weights, "c": normal(5)}
    text = (
        FOLDABLE
        if bias
        else FOLDABLE.replace(", float[5] c", "").replace(', "h.c_fc.weight", c)', ', "h.c_fc.weight")')
    )
    model, x = parsed(text, **arrays), normal(200, 12)
    before = execute(model, {"x": x})
    normed = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * gamma + beta
    ranges = {"h.c_fc.weight": ChannelRange(*(f(normed, axis=0).astype(np.float64) for f in (np.min, np.max)))}
    applied(model, FoldOutliers(ranges))
    np.testing.assert_allclose(execute(model, {"x": x}), before, rtol=0, atol=1e-4)

    folded_gamma, folded_beta = (initializer(model.graph, name) for name in "gb")
    folded = (normed - beta) / np.where(gamma, gamma, 1) * folded_gamma + folded_beta
    assert np.abs(folded.max(0) + folded.min(0)).max() < 1e-4  # every channel is centred
    live = [i for i in range(12) if i not in (8, 9)]
    columns = np.abs(initializer(model.graph, "h.c_fc.weight")).max(0)
    np.testing.assert_allclose(np.abs(folded).max(0)[live], columns[live], rtol=1e-3)  # its size is shared evenly


def test_folding_without_a_range_for_any_layer_is_an_error() -> None:
    arrays = {"g": normal(12), "b": normal(12), "h.c_fc.weight": normal(5, 12), "c": normal(5)}
    with pytest.raises(ExportError, match="FoldOutliers found 0 places"):
        FoldOutliers({})(parsed(FOLDABLE, **arrays))


NOTHING = "nothing (float[n] x) => (float[n] y) { y = Neg (x) }"


MAKERS: dict[str, Callable[[Path], Rewrite]] = {
    "BindWeights": lambda folder: BindWeights(Checkpoint(folder)),
    "PackQKV": lambda _: PackQKV(GPTNeo()),
    "FlattenTokens": lambda _: FlattenTokens(),
    "FuseLinears": lambda _: FuseLinears(),
    "KeepLastLogits": lambda _: KeepLastLogits(),
    "FoldOutliers": lambda _: FoldOutliers({}),
    "QuantizeLinears": lambda _: QuantizeLinears(),
    "PadRows": lambda _: PadRows(),
    "QuantizeEmbedding": lambda _: QuantizeEmbedding(),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_pass_that_finds_nothing_is_an_error(name: str, checkpoint: Path) -> None:
    """Except FuseGelu: a checkpoint may have another activation function."""
    rewrite = MAKERS[name](checkpoint)
    with pytest.raises(ExportError, match=name):
        rewrite(parsed(NOTHING))


# The traced model, pass after pass


STAGES = ["BindWeights", "FuseGelu", "PackQKV", "FlattenTokens", "FuseLinears", "KeepLastLogits", "FoldOutliers"]
IDS = np.stack([random_ids(40, 311), random_ids(40, 311, seed=2)])


def feeds_of(model: ir.Model, keep: int = IDS.shape[1], ids: Ids = IDS) -> Arrays:
    batch, length = ids.shape
    feeds: Arrays = {
        "input_ids": ids,
        "position_ids": np.tile(np.arange(length), (batch, 1)),
        "seqlens_k": np.full(batch, length - 1, np.int32),
        "total_sequence_length": np.array(length, np.int32),
        "local_seqlens_k": np.full(batch, length - 1, np.int32),
        "local_total_sequence_length": np.array(length, np.int32),
        "logits_to_keep": np.array(keep, np.int64),
    }
    names = [str(v.name) for v in model.graph.inputs]
    past = {n: np.zeros((batch, 4, POSITIONS, 8), np.float32) for n in names if n.startswith("past_key_values")}
    return {name: array for name, array in (feeds | past).items() if name in names}


@pytest.fixture(scope="module")
def stages(checkpoint: Path) -> dict[str, ir.Model]:
    """The traced model after each pass."""
    source = Checkpoint(checkpoint)
    ranges, _ = calibrate(Reference(source), [random_ids(POSITIONS, 311, seed=5).tolist()])
    passes = [
        BindWeights(source),
        FuseGelu(),
        PackQKV(GPTNeo()),
        FlattenTokens(),
        FuseLinears(),
        KeepLastLogits(),
        FoldOutliers(ranges),
    ]
    current, found = trace(source.config), {}
    for name, rewrite in zip(STAGES, passes, strict=True):
        current = applied(current.clone(), rewrite)
        found[name] = current
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_logits_are_torch_s_after_every_pass(
    stage: str, stages: dict[str, ir.Model], model: GPTNeoForCausalLM, tmp_path: Path
) -> None:
    """Folding too: what it moves, it moves exactly, up to float32's rounding."""
    logits = execute(stages[stage], feeds_of(stages[stage]), tmp_path)
    expected = np.stack([torch_logits(model, ids) for ids in IDS])
    np.testing.assert_allclose(logits.reshape(expected.shape), expected, rtol=0, atol=2e-5)  # flat in between


def test_the_decoder_is_linear_layers_norms_and_attention(stages: dict[str, ir.Model]) -> None:
    """Two layers: qkv, out_proj, c_fc and c_proj of each, and lm_head; nothing elementwise but sums and FastGelu.

    One sum is of the places of the kept rows.
    """
    counts = operators(stages["KeepLastLogits"])
    assert counts["Gemm"] == 4 * 2 + 1
    assert counts["GroupQueryAttention"] == counts["FastGelu"] == 2
    assert counts["LayerNormalization"] == 2 * 2 + 1
    assert not counts.keys() & {"MatMul", "Transpose", "Tanh", "Pow", "Identity"}
    assert counts["Add"] == 1 + 2 * 2 + 1


def test_a_tied_embedding_becomes_two_initializers_of_equal_rows(stages: dict[str, ir.Model]) -> None:
    graph = stages["BindWeights"].graph
    embedding, head = (graph.initializers[name] for name in ("transformer.wte.weight", "lm_head.weight"))
    assert {use.node.op_type for use in embedding.uses()} == {"Gather"}
    assert "Gather" not in {use.node.op_type for use in head.uses()}
    rows = initializer(graph, "transformer.wte.weight")
    np.testing.assert_array_equal(rows, initializer(graph, "lm_head.weight"))


def test_an_untied_head_keeps_its_own_rows(tmp_path: Path) -> None:
    model = random_model(tie_word_embeddings=False, layers=("global",))
    source = Checkpoint(save(model, tmp_path / "model"))
    found = applied(trace(source.config), BindWeights(source)).graph
    np.testing.assert_array_equal(initializer(found, "lm_head.weight"), model.lm_head.weight.detach())
    wte = model.transformer.wte.weight.detach()
    np.testing.assert_array_equal(initializer(found, "transformer.wte.weight"), wte)


@pytest.mark.parametrize("keep", [0, 1, 7, IDS.shape[1]])
def test_kept_logits_are_the_last_positions_of_every_sequence(
    keep: int, stages: dict[str, ir.Model], model: GPTNeoForCausalLM, tmp_path: Path
) -> None:
    graph = stages["KeepLastLogits"]
    logits = execute(graph, feeds_of(graph, keep), tmp_path)
    assert logits.shape == (2, keep, 311)
    expected = np.stack([torch_logits(model, ids)[len(ids) - keep :] for ids in IDS])
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("keep", [1, 3, 40])
def test_kept_logits_end_at_each_sequence_s_own_last_token(
    keep: int, stages: dict[str, ir.Model], model: GPTNeoForCausalLM, tmp_path: Path
) -> None:
    """Prompts of 40 and 5 tokens; those before the first one's are the first one's again."""
    graph = stages["KeepLastLogits"]
    feeds = feeds_of(graph, keep) | {name: np.array([39, 4], np.int32) for name in ("seqlens_k", "local_seqlens_k")}
    logits = execute(graph, {name: feeds[name] for name in feeds_of(graph)}, tmp_path)
    for found, ids, length in zip(logits, IDS, (40, 5), strict=True):
        expected = torch_logits(model, ids[:length])
        places = np.maximum(0, np.arange(length - keep, length))
        np.testing.assert_allclose(found, expected[places], rtol=0, atol=2e-5)


def test_folding_covers_every_layer_but_those_after_gelu(stages: dict[str, ir.Model]) -> None:
    before, after = (stages[name].graph for name in ("KeepLastLogits", "FoldOutliers"))
    changed = {
        name.rpartition("transformer.h.0.")[2]
        for name in after.initializers
        if name.startswith("transformer.h.0.")
        and (name not in before.initializers or not np.array_equal(initializer(after, name), initializer(before, name)))
    }
    attention = {
        f"attn.attention.{p}" for p in ("qkv_proj.weight", "qkv_proj.bias", "out_proj.weight", "out_proj.bias")
    }
    norms = {f"{norm}.{part}" for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}
    assert changed == attention | norms | {"mlp.c_fc.weight", "mlp.c_fc.bias"}


def test_folding_and_quantizing_leave_the_embedding_s_values_to_itself(stages: dict[str, ir.Model]) -> None:
    """The head's rows are folded; the embedding, tied in the checkpoint, is not."""
    before, after = (stages[name].graph for name in ("KeepLastLogits", "FoldOutliers"))
    embedding, head = "transformer.wte.weight", "lm_head.weight"
    np.testing.assert_array_equal(initializer(after, embedding), initializer(before, embedding))
    assert not np.array_equal(initializer(after, head), initializer(before, head))


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 7), (2, 7), (1, 8)])
@pytest.mark.parametrize("keep", [0, 1, 3])
def test_a_row_of_padding_leaves_every_logit_as_it_was(
    batch: int, length: int, keep: int, stages: dict[str, ir.Model], tmp_path: Path
) -> None:
    plain = stages["FoldOutliers"]
    padded = applied(plain.clone(), PadRows())
    feeds = feeds_of(plain, min(keep, length), IDS[:batch, :length])
    expected, found = (execute(graph, feeds, tmp_path) for graph in (plain, padded))
    assert found.shape == (batch, min(keep, length), 311)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("form", [BLOCKS_OF_8_BITS, BLOCKS_OF_4_BITS], ids=["8-bit", "4-bit"])
def test_long_blocks_give_a_row_the_same_bits_in_any_company(form: BlockFormat, tmp_path: Path) -> None:
    """Without PadRows, the last of an odd number of rows differs by up to 6e-5, with AVX-512."""
    source = Checkpoint(save(random_model(hidden_size=256, num_heads=4, layers=("global",)), tmp_path / "model"))
    graph = trace(source.config)
    rewrites = BindWeights(source), FuseGelu(), PackQKV(GPTNeo()), FlattenTokens(), FuseLinears(), KeepLastLogits()
    applied(graph, *rewrites, QuantizeBlocks(form, BLOCKS_OF_8_BITS), PadRows(), QuantizeEmbedding())
    sizes = {node.attributes["block_size"].as_int() for node in graph.graph if node.op_type == "MatMulNBits"}
    assert sizes == {BLOCKS_OF_8_BITS.size, form.size}
    write_graph(graph, tmp_path, "model.onnx")
    session = open_session(str(tmp_path / "model.onnx"), session_options(2, b""))

    def logits(ids: Ids) -> Floats:
        past = [v.name for v in session.get_inputs() if v.name.startswith("past_key_values")]
        feeds = feeds_of(graph, 1, ids) | {name: np.zeros((len(ids), 4, 64, 64), np.float32) for name in past}
        found: Floats = session.run(["logits"], feeds)[0]
        return found

    ids = random_ids(24, 311).reshape(8, 3)
    for length in (1, 2, 3):
        alone = np.concatenate([logits(row[None, :length]) for row in ids])
        for count in range(1, 9):
            np.testing.assert_array_equal(logits(ids[:count, :length]), alone[:count])


def test_int8_logits_are_near_fp32(stages: dict[str, ir.Model], model: GPTNeoForCausalLM, tmp_path: Path) -> None:
    graph = applied(stages["FoldOutliers"].clone(), QuantizeLinears(), QuantizeEmbedding())
    assert not operators(graph).keys() & {"Gemm", "MatMul"}
    logits = execute(graph, feeds_of(graph), tmp_path)
    expected = np.stack([torch_logits(model, ids) for ids in IDS])
    assert 0 < np.std(logits - expected) < 0.05 * np.std(expected)
