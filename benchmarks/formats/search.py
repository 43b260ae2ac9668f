"""Refinements of 4 bit blocks that were tried and dropped: searches for scales and zero points of less error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neort.bundle import BLOCKS_OF_4_BITS, BLOCKS_OF_8_BITS
from neort_export.graph.passes import QuantizeBlocks
from neort_export.quantization.blockwise import BlockFormat, Blocks, block_columns, cover, round_steps
from neort_export.quantization.moments import Moments

__all__ = ["Searched", "search_rows"]

SHRINKS = np.linspace(0.7, 1.0, 7, dtype=np.float32)
SHIFTS = (-1, 0, 1)
Floats = NDArray[np.float32]


class Searched(QuantizeBlocks):
    """4 bit blocks whose scales and zero points have the least sum of |error|^power among a few.

    ``moments`` weigh each column by its mean square in the calibration text.
    """

    def __init__(self, moments: Moments | None = None, power: float = 2) -> None:
        super().__init__(BLOCKS_OF_4_BITS, BLOCKS_OF_8_BITS)
        self.weights = moments
        self.power = power

    def quantizer(self, name: str, form: BlockFormat) -> Callable[[Floats], Blocks]:
        return lambda rows: search_rows(rows, form, self._importance(name, rows.shape[1]), self.power)

    def _importance(self, name: str, columns: int) -> Floats:
        if self.weights is None:
            return np.ones(columns, np.float32)
        moments = self.weights.read(name)
        return np.diagonal(moments, axis1=1, axis2=2).reshape(-1)[:columns].astype(np.float32)


def search_rows(rows: Floats, form: BlockFormat, importance: Floats, power: float) -> Blocks:
    """Rows [n, K] in blocks, each with the best of the scales and zero points around those that cover it."""
    blocks = block_columns(rows, form)
    weights = block_columns(np.broadcast_to(importance, rows.shape), form)
    covering, zero = cover(blocks, form)
    best = [covering, zero, np.full(zero.shape, np.inf, np.float32)]
    for shift in SHIFTS:
        shifted = np.clip(zero + np.float32(shift), 0, form.top)
        for scale in SHRINKS[:, None] * covering:
            error = np.abs(round_steps(blocks, scale, shifted, form) * scale - blocks)
            candidate = (scale, shifted, (error**power * weights).sum(axis=0))
            better = candidate[2] < best[2]
            best = [np.where(better, new, old) for new, old in zip(candidate, best, strict=True)]
    scale, zero, _ = best
    levels = (round_steps(blocks, scale, zero, form) + zero).astype(np.uint8)
    shape = (len(rows), -1)
    return Blocks(
        form,
        levels.T.reshape(len(rows), -1, form.size),
        scale.reshape(shape),
        zero.astype(np.uint8).reshape(shape),
    )
