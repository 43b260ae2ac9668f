"""Lazy tensors: weights that are computed range of rows by range of rows when they are written.

A linear layer's weight has torch's layout [N, K], one row per output channel. Every step between the checkpoint and
the bundle (stacking q, k and v, scaling rows or columns, quantizing) works on rows alone, so no step needs more than
one range of a tensor's rows in memory. Knows nothing about graphs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..checkpoint import Checkpoint, refuse_overflow
from ..parallel import ordered_map
from .blockwise import BlockFormat, Blocks

__all__ = [
    "BlockMemory",
    "Floats",
    "LazyTensor",
    "column_maxima",
    "in_blocks",
    "padded_columns",
    "padded_rows",
    "quantized_columns",
    "quantized_rows",
    "row_products",
    "row_scales",
    "scaled",
    "stacked",
    "stored",
]

Floats = NDArray[np.float32]
Array = NDArray[Any]

RANGE_ELEMENTS = 1 << 20  # 4 MB of float32: a core's cache holds most of it
INT8_MAX = 127


class LazyTensor(ir.LazyTensor):
    """A tensor whose rows ``start:stop`` can be computed on their own."""

    def __init__(
        self,
        rows: Callable[[int, int], Array],
        shape: Sequence[int],
        dtype: ir.DataType = ir.DataType.FLOAT,
        *,
        elements: int | None = None,
    ) -> None:
        """``elements`` is the number of weights that the rows are computed from, where it is not the tensor's size."""
        super().__init__(self._whole, dtype=dtype, shape=ir.Shape(shape), cache=False)
        self.rows = rows
        self.dims = tuple(shape)
        self._elements = math.prod(self.dims) if elements is None else elements

    @property
    def row_count(self) -> int:
        """Size of the first axis."""
        return self.dims[0]

    def row_ranges(self) -> Iterator[tuple[int, int]]:
        """Yield start and stop of row ranges of about RANGE_ELEMENTS elements that cover the tensor in order."""
        step = max(1, RANGE_ELEMENTS * self.row_count // max(1, self._elements))
        return ((start, min(start + step, self.row_count)) for start in range(0, self.row_count, step))

    def in_ranges(self) -> Iterator[Array]:
        """Yield the tensor's rows in order, a few row ranges in memory at a time, computed by all cores."""
        return ordered_map(lambda limits: self.rows(*limits), self.row_ranges())

    def map_ranges(self, function: Callable[[Array], Array]) -> list[Array]:
        """Return ``function`` of each row range, in order, computed by all cores."""
        return list(ordered_map(lambda limits: function(self.rows(*limits)), self.row_ranges()))

    def _whole(self) -> ir.TensorProtocol:
        out = np.empty(self.dims, self.dtype.numpy())

        def fill(limits: tuple[int, int]) -> None:
            out[slice(*limits)] = self.rows(*limits)

        for _ in ordered_map(fill, self.row_ranges()):
            pass
        return ir.tensor(out)


def stored(checkpoint: Checkpoint, name: str) -> LazyTensor:
    """Return a tensor of the checkpoint by its name, in float32."""
    return LazyTensor(lambda start, stop: checkpoint.rows(name, start, stop), checkpoint.shape(name))


def stacked(parts: Sequence[LazyTensor]) -> LazyTensor:
    """Stack tensors of equal width, one below the other."""
    offsets = np.cumsum([0, *(p.row_count for p in parts)])

    def rows(start: int, stop: int) -> Array:
        pieces = [
            part.rows(max(start - offset, 0), min(stop - offset, part.row_count))
            for part, offset in zip(parts, offsets[:-1].tolist(), strict=True)
            if start < offset + part.row_count and stop > offset
        ]
        return np.concatenate(pieces)

    return LazyTensor(rows, (int(offsets[-1]), *parts[0].dims[1:]))


def padded_rows(tensor: LazyTensor, group: int, size: int) -> LazyTensor:
    """Fill up every ``group`` rows of a tensor with zeros to ``size`` rows."""

    def rows(start: int, stop: int) -> Array:
        groups, places = np.divmod(np.arange(start, stop), size)
        taken = places < group
        sources = (groups * group + places)[taken]  # consecutive
        out = np.zeros((stop - start, *tensor.dims[1:]), np.float32)
        if len(sources):
            out[taken] = tensor.rows(int(sources[0]), int(sources[-1]) + 1)
        return out

    return LazyTensor(rows, (tensor.row_count // group * size, *tensor.dims[1:]))


def padded_columns(tensor: LazyTensor, group: int, size: int) -> LazyTensor:
    """Fill up every ``group`` columns of a matrix with zeros to ``size`` columns."""
    rows, columns = tensor.dims
    count = columns // group

    def compute(start: int, stop: int) -> Array:
        out = np.zeros((stop - start, count, size), np.float32)
        out[:, :, :group] = tensor.rows(start, stop).reshape(-1, count, group)
        return out.reshape(stop - start, -1)

    return LazyTensor(compute, (rows, count * size))


def scaled(tensor: LazyTensor, *, rows: Floats | None = None, columns: Floats | None = None) -> LazyTensor:
    """Multiply a matrix [N, K] by ``rows`` [N] along its first axis and ``columns`` [K] along its second.

    Computing rows raises CheckpointError where they leave float32's range.
    """

    def compute(start: int, stop: int) -> Array:
        values: Array = tensor.rows(start, stop)
        with np.errstate(over="ignore", invalid="ignore"):
            if rows is not None:
                values = values * rows[start:stop, None]
            if columns is not None:
                values = values * columns
        refuse_overflow(product.name, values, start)
        return values

    product = LazyTensor(compute, tensor.dims)
    return product


def row_products(tensor: LazyTensor, vector: Floats) -> Floats:
    """Return the matrix [N, K] times ``vector`` [K] as float32 [N], summed in float64; infinite where float32 ends."""
    wide = vector.astype(np.float64)
    products = np.concatenate(tensor.map_ranges(lambda rows: rows.astype(np.float64) @ wide))
    with np.errstate(over="ignore"):
        return products.astype(np.float32)


def column_maxima(tensor: LazyTensor) -> Floats:
    """Return the largest absolute value of each column of a matrix [N, K], float32 [K]."""
    maxima: Floats = np.max(tensor.map_ranges(lambda rows: np.abs(rows).max(axis=0)), axis=0)
    return maxima


def row_scales(tensor: LazyTensor) -> Floats:
    """Return the symmetric int8 scale of each row, float32 [N]: absmax / 127, and 1 where that is 0."""
    scales = np.concatenate(tensor.map_ranges(lambda rows: np.abs(rows).max(axis=1))) / np.float32(INT8_MAX)
    return np.where(scales > 0, scales, 1).astype(np.float32)


def quantized_rows(tensor: LazyTensor, scales: Floats) -> LazyTensor:
    """Quantize a matrix [N, K] to int8: row n divided by ``scales[n]`` and rounded to nearest even."""

    def rows(start: int, stop: int) -> Array:
        quotients = tensor.rows(start, stop) / scales[start:stop, None]
        np.rint(quotients, out=quotients)
        quantized: Array = np.clip(quotients, -INT8_MAX, INT8_MAX, out=quotients).astype(np.int8)
        return quantized

    return LazyTensor(rows, tensor.dims, ir.DataType.INT8)


def quantized_columns(tensor: LazyTensor, scales: Floats) -> ir.LazyTensor:
    """Quantize a matrix [N, K] likewise, transposed to [K, N], the layout of an integer product's right-hand side."""
    quantized = quantized_rows(tensor, scales)
    rows, columns = tensor.dims

    def compute() -> ir.TensorProtocol:
        out = np.empty((columns, rows), np.int8)

        def transpose(limits: tuple[int, int]) -> None:
            out[:, slice(*limits)] = quantized.rows(*limits).T

        for _ in ordered_map(transpose, quantized.row_ranges()):
            pass
        return ir.tensor(out)

    return ir.LazyTensor(compute, dtype=ir.DataType.INT8, shape=ir.Shape((columns, rows)))


class BlockMemory:
    """Scales and packed zero points of the matrix that was quantized last, by row range."""

    def __init__(self) -> None:
        self._owner: object = None
        self._found: dict[tuple[int, int], tuple[Array, Array]] = {}

    def of(self, owner: object) -> dict[tuple[int, int], tuple[Array, Array]]:
        """Return what is known about one matrix; another matrix's results are forgotten."""
        if owner is not self._owner:
            self._owner, self._found = owner, {}
        return self._found


def in_blocks(
    tensor: LazyTensor,
    form: BlockFormat,
    quantize: Callable[[Floats], Blocks],
    memory: BlockMemory,
    portion: int = 1,
) -> tuple[LazyTensor, LazyTensor, LazyTensor]:
    """Quantize a matrix [N, K] to MatMulNBits' packed levels, scales and packed zero points (see blockwise).

    The three come out of one computation. Written one after the other, levels first, it runs once: ``memory`` keeps
    scales and zero points, which are small, until the next matrix. ``portion`` times as many rows as usual are
    quantized at a time. Computing any of them raises CheckpointError where a scale is not finite.
    """
    rows, columns = tensor.dims
    blocks = form.block_count(columns)

    def levels(start: int, stop: int) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            found = quantize(tensor.rows(start, stop))
        refuse_overflow(tensor.name, found.scales, start, axes=("row", "block"))
        memory.of(tensor)[start, stop] = (found.scales, found.packed_zeros())
        return found.packed_levels()

    def scales_and_zeros(start: int, stop: int) -> tuple[Array, Array]:
        if (start, stop) not in memory.of(tensor):
            levels(start, stop)
        return memory.of(tensor)[start, stop]

    size = math.prod(tensor.dims) // portion
    return (
        LazyTensor(levels, (rows, blocks, form.packed_bytes(form.size)), ir.DataType.UINT8, elements=size),
        LazyTensor(lambda start, stop: scales_and_zeros(start, stop)[0], (rows, blocks), elements=size),
        LazyTensor(
            lambda start, stop: scales_and_zeros(start, stop)[1],
            (rows, form.packed_bytes(blocks)),
            ir.DataType.UINT8,
            elements=size,
        ),
    )
