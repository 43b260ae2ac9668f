"""GPTQ: each column's rounding error is made up for by the columns that are not rounded yet.

With the second moments H = E[x x'] of a layer's input, the error of its output is e H e' for a row's error e. Rounding
column j by e_j, the best that the later columns can do is to move by -e_j times row j of the upper Cholesky factor U of
H^-1, over its diagonal element (Frantar et al., arXiv 2210.17323). Rows do not see each other, so they can come in any
portions; H is taken block-diagonal, in chunks of channels, so that neither memory nor time grows with K^2.

Pure numpy; knows nothing about graphs or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .blockwise import BlockFormat, Blocks, cover, round_steps

__all__ = ["compensated_rows", "inverse_factors"]

Floats = NDArray[np.float32]

DAMPING = 0.01  # of the mean second moment, added to each
RAISED = 10.0  # times as much, where that is not enough
TRIES = 6  # the last one adds more than the norm of any chunk


def inverse_factors(moments: NDArray[np.floating], damping: float = DAMPING) -> Floats:
    """Return the upper Cholesky factor of the inverse of each chunk of second moments, float32 [chunks, c, c].

    Moments are divided by the chunk's mean one, which compensation does not notice, and damped. A chunk that rounding
    has made indefinite is damped ten times as much, and again; where all moments are zero or one is not finite, the
    factor is the identity, with which nothing is compensated.
    """
    return np.stack([_inverse_factor(chunk.astype(np.float64), damping) for chunk in moments]).astype(np.float32)


def _inverse_factor(moments: NDArray[np.float64], damping: float) -> NDArray[np.float64]:
    """The factor of one chunk, [c, c]."""
    identity = np.eye(len(moments))
    mean = np.trace(moments) / len(moments)
    if not (np.isfinite(moments).all() and mean > 0):
        return identity
    for step in range(TRIES):
        damped = moments / mean + damping * RAISED**step * identity
        try:
            # With H = L L' and the order of the channels reversed, the inverse of L is the factor that is wanted.
            lower = np.linalg.cholesky(damped[::-1, ::-1])
        except np.linalg.LinAlgError:
            continue
        return np.linalg.inv(lower)[::-1, ::-1]
    return identity


def compensated_rows(rows: Floats, form: BlockFormat, factors: Floats) -> Blocks:
    """Quantize rows [n, K] in blocks, column by column; ``factors`` [chunks, c, c] come from `inverse_factors`.

    A block's scale and zero point cover its weights as the columns before it have left them. Blocks divide chunks.
    """
    count, columns = rows.shape
    chunk = factors.shape[-1]
    padded = form.block_count(columns) * form.size
    levels = np.empty((padded, count), np.uint8)
    scales = np.empty((padded // form.size, count), np.float32)
    zeros = np.empty((padded // form.size, count), np.uint8)
    for factor, start in zip(factors, range(0, padded, chunk), strict=True):
        targets = np.zeros((min(chunk, padded - start), count), np.float32)
        known = rows[:, start : start + chunk].T
        targets[: len(known)] = known
        blocks = slice(start // form.size, (start + len(targets)) // form.size)
        _round_chunk(targets, form, factor, levels[start : start + chunk], scales[blocks], zeros[blocks])
    shape = (count, len(scales), form.size)
    return Blocks(form, np.ascontiguousarray(levels.T).reshape(shape), scales.T.copy(), zeros.T.copy())


def _round_chunk(
    targets: Floats,
    form: BlockFormat,
    factor: Floats,
    levels: NDArray[np.uint8],
    scales: Floats,
    zeros: NDArray[np.uint8],
) -> None:
    """Round one chunk, [c, n] with a channel per row, into ``levels`` [c, n], ``scales`` and ``zeros`` [c/size, n].

    Scales are NaN where making up for errors leaves float32's range.
    """
    errors = np.empty_like(targets)
    for block, start in enumerate(range(0, len(targets), form.size)):
        stop = start + form.size
        wanted = targets[start:stop] - factor[:start, start:stop].T @ errors[:start]
        scale, zero = cover(wanted, form)
        for i, j in enumerate(range(start, stop)):
            weight = wanted[i] - factor[start:j, j] @ errors[start:j]
            steps = round_steps(weight, scale, zero, form)
            errors[j] = (weight - steps * scale) / factor[j, j]
            levels[j] = steps + zero
        scales[block], zeros[block] = scale, zero
    scales[:, ~np.isfinite(errors).all(axis=0)] = np.nan
