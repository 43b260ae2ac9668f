"""Weights in blocks: their layout against onnxruntime's MatMulNBits, their errors, and GPTQ against its paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from neort.bundle import BLOCKS_OF_4_BITS, BLOCKS_OF_8_BITS, BlockFormat
from neort_export.quantization.blockwise import Blocks, quantize_rows
from neort_export.quantization.gptq import compensated_rows, inverse_factors
from neort_export.quantization.moments import Moments

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

FORMS = [
    BLOCKS_OF_8_BITS,
    BLOCKS_OF_4_BITS,
    BlockFormat(bits=4, size=32),
    BlockFormat(bits=8, size=64, asymmetric=True),
    BlockFormat(bits=4, size=16, asymmetric=True),
]
NAMES = [f"{f.bits}-bit-{f.size}-{'asymmetric' if f.asymmetric else 'symmetric'}" for f in FORMS]
SHAPES = [(5, 64), (3, 128), (70, 200), (1, 40)]  # columns that are no multiple of a block, too


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def product_in_onnxruntime(x: Floats, blocks: Blocks, columns: int) -> Floats:
    """x times the matrix by onnxruntime, activations left in float32."""
    form = blocks.form
    inputs: dict[str, NDArray[Any]] = {"levels": blocks.packed_levels(), "scales": blocks.scales}
    if form.asymmetric:
        inputs["zeros"] = blocks.packed_zeros()
    node = onnx.helper.make_node(
        "MatMulNBits",
        ["x", *inputs],
        ["y"],
        domain="com.microsoft",
        N=len(blocks.levels),
        K=columns,
        bits=form.bits,
        block_size=form.size,
    )
    graph = onnx.helper.make_graph(
        [node],
        "product",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(x.shape))],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in inputs.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    y: Floats = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[
        0
    ]
    return y


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_onnxruntime_reads_the_matrix_that_the_blocks_stand_for(form: BlockFormat, shape: tuple[int, int]) -> None:
    blocks = quantize_rows(normal(*shape), form)
    x = normal(4, shape[1], seed=1)
    expected = x @ blocks.dequantized(shape[1]).T
    np.testing.assert_allclose(product_in_onnxruntime(x, blocks, shape[1]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_weight_is_off_by_more_than_half_a_step(form: BlockFormat, shape: tuple[int, int]) -> None:
    rows = normal(*shape)
    blocks = quantize_rows(rows, form)
    steps = np.abs(np.repeat(blocks.scales, form.size, axis=1)[:, : shape[1]])
    # A zero point is rounded too, so the far end of an asymmetric block may be half a step outside.
    # In a symmetric block one sign has a level less: its largest weight is at most one step outside.
    allowed = 1.0 if form.asymmetric else 0.5
    inside = np.abs(rows) <= steps * (form.middle - 1) if not form.asymmetric else np.ones(shape, bool)
    assert (np.abs(blocks.dequantized(shape[1]) - rows)[inside] <= (allowed * steps + 1e-6)[inside]).all()
    assert (np.abs(blocks.dequantized(shape[1]) - rows) <= steps + 1e-6).all()


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
@pytest.mark.parametrize("value", [0.0, 1e-38, 3.5, -3.5])
def test_constant_blocks_are_kept(form: BlockFormat, value: float) -> None:
    rows = np.full((2, form.size), value, np.float32)
    np.testing.assert_allclose(quantize_rows(rows, form).dequantized(form.size), rows, rtol=1e-6, atol=1e-30)


def correlated(columns: int, count: int = 2000, seed: int = 5) -> Floats:
    mixing = normal(columns, columns, seed=seed) / np.sqrt(columns) + np.eye(columns, dtype=np.float32)
    rows: Floats = normal(count, columns, seed=seed + 1) @ mixing.astype(np.float32)
    return rows


def second_moments(x: Floats) -> Doubles:
    wide = x.astype(np.float64)
    return (wide.T @ wide / len(wide))[None]


def test_the_factor_is_the_upper_cholesky_factor_of_the_inverse() -> None:
    moments = second_moments(correlated(32))
    moments *= 32 / np.trace(moments[0])  # a mean of 1, by which others are divided
    factor = inverse_factors(moments, damping=0)[0].astype(np.float64)
    np.testing.assert_allclose(factor, np.triu(factor), atol=1e-12)
    np.testing.assert_allclose(factor.T @ factor, np.linalg.inv(moments[0]), rtol=1e-4, atol=1e-5)


def test_channels_that_are_always_zero_do_not_break_the_factor() -> None:
    x = correlated(32)
    x[:, [3, 17]] = 0
    assert np.isfinite(inverse_factors(second_moments(x))).all()
    assert np.isfinite(inverse_factors(np.zeros((1, 32, 32)))).all()


@pytest.mark.parametrize(
    ("columns", "size"), [(2048, 256), (768, 256), (640, 128), (320, 64), (192, 64), (96, 32), (40, 32), (7, 32)]
)
def test_blocks_are_the_longest_that_cut_the_columns_evenly(columns: int, size: int) -> None:
    assert BLOCKS_OF_8_BITS.fitting(columns).size == size
    assert BLOCKS_OF_8_BITS.fitting(columns).block_count(columns) == -(-columns // size)


def textbook_gptq(rows: Floats, form: BlockFormat, factor: Doubles) -> Doubles:
    """Algorithm 1 of arXiv 2210.17323 without its lazy batches, in float64; scales cover a block as it is found."""
    left, out = rows.astype(np.float64).copy(), np.zeros(rows.shape)
    for j in range(rows.shape[1]):
        if j % form.size == 0:
            block = quantize_rows(left[:, j : j + form.size].astype(np.float32), form)
            scale, zero = block.scales[:, 0].astype(np.float64), block.zeros[:, 0].astype(np.float64)
        level = np.clip(np.rint(left[:, j] / scale), -zero, form.top - zero)
        out[:, j] = level * scale
        error = (left[:, j] - out[:, j]) / factor[j, j]
        left[:, j + 1 :] -= np.outer(error, factor[j, j + 1 :])
    return out


@pytest.mark.parametrize("form", FORMS[:3], ids=NAMES[:3])
def test_compensation_is_the_published_algorithm(form: BlockFormat) -> None:
    form, rows, moments = form.fitting(128), normal(6, 128), second_moments(correlated(128))
    factors = inverse_factors(moments)
    ours = compensated_rows(rows, form, factors).dequantized(128)
    theirs = textbook_gptq(rows, form, factors[0].astype(np.float64))
    differ = np.abs(ours - theirs) > 1e-4  # a level apart, where float32 and float64 round to different sides
    assert differ.mean() < 0.01


def test_compensation_lowers_the_error_of_the_output() -> None:
    x = correlated(128)
    rows, moments = normal(40, 128), second_moments(x)
    plain = quantize_rows(rows, BLOCKS_OF_4_BITS).dequantized(128)
    better = compensated_rows(rows, BLOCKS_OF_4_BITS, inverse_factors(moments)).dequantized(128)

    def error(quantized: Floats) -> float:
        return float(np.square(x @ (quantized - rows).T).mean())

    assert error(better) < 0.7 * error(plain)


def test_channels_that_know_nothing_of_each_other_are_rounded_to_the_nearest() -> None:
    form, rows = BLOCKS_OF_4_BITS.fitting(32), normal(7, 96)
    factors = inverse_factors(np.stack([np.eye(32)] * 3))
    compensated = compensated_rows(rows, form, factors)
    plain = quantize_rows(rows, form)
    np.testing.assert_allclose(compensated.dequantized(96), plain.dequantized(96), atol=1e-6)


def test_rows_can_come_in_any_portions() -> None:
    form, rows, factors = BLOCKS_OF_4_BITS.fitting(64), normal(9, 64), inverse_factors(second_moments(correlated(64)))
    whole = compensated_rows(rows, form, factors).dequantized(64)
    parts = [compensated_rows(part, form, factors).dequantized(64) for part in (rows[:4], rows[4:])]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_moments_are_those_of_all_rows_in_chunks_of_channels(tmp_path: Path) -> None:
    x = correlated(40)
    moments = Moments(tmp_path / "moments", chunk=16)
    for part in (x[:700], x[700:]):
        moments.add("layer", part)
    whole = np.pad(second_moments(x)[0], (0, 8))
    expected = [whole[i : i + 16, i : i + 16] for i in (0, 16, 32)]
    np.testing.assert_allclose(moments.read("layer"), expected, rtol=1e-4, atol=1e-4)
    moments.remove()
    assert list(tmp_path.iterdir()) == []


def test_folded_moments_are_those_of_the_folded_input(tmp_path: Path) -> None:
    x = correlated(32) + 3
    shift, scale = normal(32, seed=8), np.abs(normal(32, seed=9)) + np.float32(0.5)
    moments = Moments(tmp_path / "moments", chunk=16)
    moments.add("layer", x)
    moments.fold("layer", shift, scale)
    folded = second_moments((x - shift) / scale)[0]
    expected = [folded[i : i + 16, i : i + 16] for i in (0, 16)]
    np.testing.assert_allclose(moments.read("layer"), expected, rtol=1e-3, atol=1e-3)
