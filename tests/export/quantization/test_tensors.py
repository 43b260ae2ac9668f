"""Lazy tensors: any size of row ranges gives the whole-array computation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from checkpoints import Floats, weight
from neort_export.bundle import write_graph
from neort_export.checkpoint import Checkpoint
from neort_export.quantization import tensors as weights
from neort_export.quantization.tensors import (
    LazyTensor,
    column_maxima,
    padded_columns,
    padded_rows,
    quantized_columns,
    quantized_rows,
    row_products,
    row_scales,
    scaled,
    stacked,
    stored,
)

values = st.floats(-1e4, 1e4, width=32, allow_subnormal=False).map(lambda x: x if abs(x) > 1e-20 else 0.0)
range_sizes = st.integers(1, 60)


def arrays(rows: st.SearchStrategy[int], columns: st.SearchStrategy[int]) -> st.SearchStrategy[Floats]:
    shapes = st.tuples(rows, columns)
    return shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=values))


matrices = arrays(st.integers(1, 12), st.integers(1, 9))


@contextmanager
def ranges_of(elements: int) -> Iterator[None]:
    with mock.patch.object(weights, "RANGE_ELEMENTS", elements):
        yield


def in_ranges(tensor: LazyTensor) -> Floats:
    whole: Floats = np.concatenate(list(tensor.in_ranges()))
    return whole


def reference_scales(array: Floats) -> Floats:
    largest = np.abs(array).max(axis=1)
    scales: Floats = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return scales


@given(matrices, range_sizes)
def test_row_ranges_cover_every_row_once_and_in_order(array: Floats, size: int) -> None:
    with ranges_of(size):
        ranges = list(weight(array).row_ranges())
        np.testing.assert_array_equal(in_ranges(weight(array)), array)
    assert [row for start, stop in ranges for row in range(start, stop)] == list(range(len(array)))
    assert all((stop - start) * array.shape[1] <= max(size, array.shape[1]) for start, stop in ranges)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 6), range_sizes)
def test_stacked_is_concatenation(heights: list[int], width: int, size: int) -> None:
    numbers = np.arange(sum(heights) * width, dtype=np.float32).reshape(-1, width)
    parts = [weight(part) for part in np.split(numbers, np.cumsum(heights)[:-1])]
    with ranges_of(size):
        tensor = stacked(parts)
        np.testing.assert_array_equal(in_ranges(tensor), numbers)
    np.testing.assert_array_equal(tensor.numpy(), numbers)


@given(matrices, range_sizes, st.booleans(), st.booleans())
def test_scaled_is_a_product_by_rows_and_columns(array: Floats, size: int, by_row: bool, by_column: bool) -> None:
    rows = np.linspace(0.5, 2, array.shape[0], dtype=np.float32)
    columns = np.linspace(3, -1, array.shape[1], dtype=np.float32)
    expected = array.copy()
    if by_row:
        expected = expected * rows[:, None]
    if by_column:
        expected = expected * columns
    with ranges_of(size):
        tensor = scaled(weight(array), rows=rows if by_row else None, columns=columns if by_column else None)
        np.testing.assert_array_equal(in_ranges(tensor), expected)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3), range_sizes)
def test_padding_puts_zeros_after_each_group_of_rows_or_columns(
    groups: int, group: int, zeros: int, width: int, size: int
) -> None:
    numbers = 1 + np.arange(groups * group * width, dtype=np.float32).reshape(groups, group, width)
    expected = np.pad(numbers, ((0, 0), (0, zeros), (0, 0))).reshape(-1, width)
    rows = numbers.reshape(-1, width)
    with ranges_of(size):
        np.testing.assert_array_equal(in_ranges(padded_rows(weight(rows), group, group + zeros)), expected)
        vector = padded_rows(weight(rows[:, 0]), group, group + zeros)
        np.testing.assert_array_equal(in_ranges(vector), expected[:, 0])
        turned = np.ascontiguousarray(rows.T)
        np.testing.assert_array_equal(in_ranges(padded_columns(weight(turned), group, group + zeros)), expected.T)


@given(matrices, range_sizes)
def test_row_products_are_the_matrix_times_the_vector(array: Floats, size: int) -> None:
    vector = np.linspace(-1, 2, array.shape[1], dtype=np.float32)
    with ranges_of(size):
        products = row_products(weight(array), vector)
    wide = array.astype(np.float64) * vector
    assert products.dtype == np.float32
    assert (np.abs(products - wide.sum(axis=1)) <= 1e-6 * np.abs(wide).sum(axis=1)).all()


@given(matrices, range_sizes)
def test_column_maxima_are_the_largest_magnitudes(array: Floats, size: int) -> None:
    with ranges_of(size):
        np.testing.assert_array_equal(column_maxima(weight(array)), np.abs(array).max(axis=0))


@given(matrices, range_sizes)
def test_row_scales_are_absmax_over_127(array: Floats, size: int) -> None:
    with ranges_of(size):
        np.testing.assert_array_equal(row_scales(weight(array)), reference_scales(array))


@given(matrices, range_sizes)
def test_quantized_rows_are_within_half_a_scale(array: Floats, size: int) -> None:
    with ranges_of(size):
        scales = row_scales(weight(array))
        quantized = in_ranges(quantized_rows(weight(array), scales))
    assert quantized.dtype == np.int8
    assert np.abs(quantized.astype(int)).max() <= 127
    error = np.abs(quantized * scales[:, None].astype(np.float64) - array)
    assert (error <= scales[:, None] * 0.5001).all()


@given(matrices)
def test_the_largest_value_of_a_row_becomes_127(array: Floats) -> None:
    quantized = quantized_rows(weight(array), row_scales(weight(array))).numpy()
    for row, integers in zip(array, quantized, strict=True):
        assert np.abs(integers.astype(int)).max() == (127 if row.any() else 0)


@given(matrices, range_sizes)
def test_quantized_columns_are_quantized_rows_transposed(array: Floats, size: int) -> None:
    scales = reference_scales(array)
    with ranges_of(size):
        columns = quantized_columns(weight(array), scales)
        np.testing.assert_array_equal(columns.numpy(), quantized_rows(weight(array), scales).numpy().T)
    assert (columns.dtype, tuple(columns.shape.numpy())) == (ir.DataType.INT8, array.shape[::-1])


def test_a_row_of_zeros_has_scale_1_and_stays_zero() -> None:
    array = np.array([[0, 0, 0], [1, -2, 0.5]], np.float32)
    scales = row_scales(weight(array))
    assert scales[0] == 1
    np.testing.assert_array_equal(quantized_rows(weight(array), scales).numpy(), [[0, 0, 0], [64, -127, 32]])


def test_a_row_of_subnormal_numbers_quantizes_without_infinities() -> None:
    """A dead row may hold 1e-44; a scale that underflows to zero would divide zero by zero."""
    array = np.array([[1e-44, 0, -1e-44]], np.float32)
    scales = row_scales(weight(array))
    assert scales[0] > 0
    dequantized = quantized_rows(weight(array), scales).numpy() * scales[:, None]
    assert np.abs(dequantized - array).max() < 1e-40


@given(st.integers(0, 10), st.integers(0, 10))
def test_rows_of_nested_lazy_tensors_are_rows_of_the_whole(first: int, second: int) -> None:
    """Stacking, scaling and quantizing compose: any row range is computed on its own."""
    start, stop = sorted((first, second))
    rng = np.random.default_rng(0)
    upper, lower = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(6, 3)).astype(np.float32)
    lazy = scaled(stacked([weight(upper), weight(lower)]), columns=np.array([1, 2, 4], np.float32))
    quantized = quantized_rows(lazy, row_scales(lazy))
    if start < stop:
        np.testing.assert_array_equal(quantized.rows(start, stop), quantized.numpy()[start:stop])


def test_stored_reads_the_checkpoint_s_tensor(checkpoint: Path) -> None:
    source = Checkpoint(checkpoint)
    tensor = stored(source, "transformer.h.1.mlp.c_fc.weight")
    with ranges_of(100):
        np.testing.assert_array_equal(in_ranges(tensor), source.tensor("transformer.h.1.mlp.c_fc.weight").numpy())


@pytest.mark.parametrize("size", [1, 700, 1 << 22])
def test_written_weights_are_the_lazy_tensors_on_pages(tmp_path: Path, size: int) -> None:
    """Every tensor of 256 bytes and more lies in weights.data, its start a multiple of 4096; the graph keeps names."""
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(50, 7)), "b": rng.normal(size=(9, 31)), "small": rng.normal(size=(2, 2))}
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 21}, name="weights")
    for name, array in arrays.items():
        tensor = weight(array.astype(np.float32))
        tensor.name = name
        graph.register_initializer(
            ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        )
    written: list[int] = []
    with ranges_of(size):
        write_graph(ir.Model(graph, ir_version=10), tmp_path, "model.onnx", written.append)
    assert sum(written) == 4 * (50 * 7 + 9 * 31)
    read = ir.load(tmp_path / "model.onnx").graph.initializers
    for name, array in arrays.items():
        found = read[name].const_value
        assert found is not None
        np.testing.assert_array_equal(found.numpy(), array.astype(np.float32))
        assert isinstance(found, ir.ExternalTensor) == (name != "small")
        assert not isinstance(found, ir.ExternalTensor) or (found.offset or 0) % 4096 == 0
    assert isinstance(graph.initializers["a"].const_value, LazyTensor)
