"""Blockwise quantization in the layout that onnxruntime's MatMulNBits reads.

A matrix [N, K], one row per output channel, is cut along K into blocks of ``size`` weights, the last one padded with
zeros. Each block has one float32 scale and one integer zero point, and a weight is (level - zero) * scale:

    levels   uint8 [N, blocks, size * bits / 8]        8 bits: one per byte; 4 bits: two, the first in the low nibble
    scales   float32 [N, blocks]
    zeros    uint8 [N, ceil(blocks * bits / 8)]        packed like levels; without them every zero point is 2^(bits-1)

How long blocks are, and of how many bits, says neort's table of formats. Pure numpy on rows; knows nothing about graphs
or files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neort.bundle import BlockFormat

__all__ = ["BlockFormat", "Blocks", "block_columns", "cover", "quantize_rows", "round_steps"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

PIECE_ELEMENTS = 1 << 16  # 256 KB of float32: what is worked on at a time stays in a core's cache
TINY = np.float32(1e-30)


@dataclass(frozen=True)
class Blocks:
    """Rows in blocks: ``levels`` uint8 [n, blocks, size], ``scales`` float32 and ``zeros`` uint8, both [n, blocks]."""

    form: BlockFormat
    levels: Bytes
    scales: Floats
    zeros: Bytes

    def packed_levels(self) -> Bytes:
        """The operator's input B."""
        return _packed(self.levels, self.form.bits)

    def packed_zeros(self) -> Bytes:
        """The operator's input zero_points."""
        return _packed(self.zeros, self.form.bits)

    def dequantized(self, columns: int) -> Floats:
        """The matrix [n, columns] that the blocks stand for."""
        steps = self.levels.astype(np.float32) - self.zeros[..., None]
        return (steps * self.scales[..., None]).reshape(len(steps), -1)[:, :columns]


def _packed(levels: Bytes, bits: int) -> Bytes:
    """Levels along the last axis, two per byte when they have four bits."""
    if bits == 8:
        return levels
    if levels.shape[-1] % 2:
        levels = np.concatenate([levels, np.zeros((*levels.shape[:-1], 1), np.uint8)], axis=-1)
    packed: Bytes = np.left_shift(levels[..., 1::2], 4, dtype=np.uint8) | levels[..., ::2]
    return packed


def quantize_rows(rows: Floats, form: BlockFormat) -> Blocks:
    """Rows [n, K] in blocks, each weight rounded to the nearest level of a scale that just covers its block."""
    count = form.block_count(rows.shape[1])
    levels = np.empty((len(rows), count, form.size), np.uint8)
    scales = np.empty((len(rows), count), np.float32)
    zeros = np.empty((len(rows), count), np.uint8)
    for piece in _pieces(rows.shape):
        blocks = block_columns(rows[piece], form)
        scale, zero = cover(blocks, form)
        level = round_steps(blocks, scale, zero, form) + zero
        levels[piece] = level.T.reshape(levels[piece].shape)
        scales[piece] = scale.reshape(-1, count)
        zeros[piece] = zero.reshape(-1, count)
    return Blocks(form, levels, scales, zeros)


def cover(blocks: Floats, form: BlockFormat) -> tuple[Floats, Floats]:
    """The scale and zero point [m] whose levels just cover the range of each block [size, m] and zero.

    The scale of a symmetric block is negative where its largest weight is positive: that one takes level 0, the
    level that only one side has. A block whose range leaves float32 has a scale that is not finite.
    """
    low, high = np.minimum(blocks.min(axis=0), 0), np.maximum(blocks.max(axis=0), 0)
    if form.asymmetric:
        scale = _divisible((high - low) / np.float32(form.top))
        return scale, np.rint(-low / scale)
    extreme = np.where(-low > high, low, high)
    return _divisible(extreme / np.float32(-form.middle)), np.full(low.shape, form.middle, np.float32)


def round_steps(weights: Floats, scale: Floats, zero: Floats, form: BlockFormat) -> Floats:
    """Weights [..., m] as whole numbers of steps from zero: the nearest level less the zero point."""
    steps = weights / scale
    np.rint(steps, out=steps)
    np.maximum(steps, -zero, out=steps)
    np.minimum(steps, np.float32(form.top) - zero, out=steps)
    return steps


def _divisible(scale: Floats) -> Floats:
    """1 in the place of scales that are too small to divide by; NaN stays."""
    return np.where(np.abs(scale) <= TINY, np.float32(1), scale).astype(np.float32)


def _pieces(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, PIECE_ELEMENTS // shape[1])
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def block_columns(rows: Floats, form: BlockFormat) -> Floats:
    """Rows [n, K] as one block per column, [size, n * blocks]: sums over a block then run along contiguous memory."""
    padding = form.block_count(rows.shape[1]) * form.size - rows.shape[1]
    if padding:
        rows = np.pad(rows, ((0, 0), (0, padding)))
    return np.ascontiguousarray(rows.reshape(-1, form.size).T)
