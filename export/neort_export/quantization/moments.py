"""Second moments of the inputs of linear layers, E[x x'] in chunks of channels, kept in files between uses.

At 1.3 billion weights they are 350 MB: one layer's are in memory at a time.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments"]

Doubles = NDArray[np.float64]

CHUNK = 256  # channels; a multiple of every block size


class Moments:
    """The moments of each layer by the name of its weight, in a scratch folder.

    Channels may lie far from zero: with a mean of a thousand deviations, E[x^2] - E[x]^2 in float32 would be rounding
    and nothing else. So what is summed is d = x - pivot, where the pivot is the mean of the first rows, and any other
    shift is left to `read`. A difference of float32 numbers is rounded by its own size, and the sums of products
    d d' by that of the channels' deviations; float32 files are therefore enough.
    """

    def __init__(self, folder: Path, chunk: int = CHUNK) -> None:
        """``folder`` is created; ``remove`` deletes it."""
        folder.mkdir()
        self.folder = folder
        self.chunk = chunk
        self._counts: dict[str, int] = {}
        self._pivots: dict[str, NDArray[np.float32]] = {}
        self._sums: dict[str, Doubles] = {}
        self._folds: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}

    def add(self, weight: str, rows: NDArray[np.float32]) -> None:
        """Count the input rows, float32 [n, K], of the layer with this weight."""
        cut = self._chunks(rows)  # [chunks, n, c]
        known = weight in self._counts
        if not known:
            self._counts[weight] = 0
            self._pivots[weight] = cut.mean(axis=1, dtype=np.float64).astype(np.float32)
            self._sums[weight] = np.zeros_like(self._pivots[weight], np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            cut -= self._pivots[weight][:, None]
            products = cut.transpose(0, 2, 1) @ cut
            if known:
                products += np.load(self._file(weight))
            self._sums[weight] += cut.sum(axis=1, dtype=np.float64)
        np.save(self._file(weight), products)
        self._counts[weight] += len(rows)

    def fold(self, weight: str, shift: NDArray[np.float32], scale: NDArray[np.float32]) -> None:
        """Take (x - shift) / scale, float32 [K] each, as the layer's input from now on."""
        self._folds[weight] = (self._chunks(shift[None])[:, 0], self._chunks(scale[None], fill=1)[:, 0])

    def read(self, weight: str) -> Doubles:
        """Return E[x x'] of each chunk of a layer's input channels, [chunks, c, c]; the last one is padded with zeros.

        It is the covariance, which no shift changes, plus the product of the mean with itself. Not finite where sums
        of products have left float32's range.
        """
        count, pivot = self._counts[weight], self._pivots[weight].astype(np.float64)
        shift, scale = self._folds.get(weight, (np.zeros_like(pivot), np.ones_like(pivot)))
        products: Doubles = np.load(self._file(weight)).astype(np.float64)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            centre = self._sums[weight] / count  # E[d]
            mean = (centre + (pivot - shift)) / scale
            products /= count
            products -= _squares(centre)  # now the covariance
            products /= _squares(scale.astype(np.float64))
            products += _squares(mean)
        return products

    def remove(self) -> None:
        """Delete the scratch folder."""
        shutil.rmtree(self.folder)

    def _chunks(self, rows: NDArray[np.float32], fill: float = 0) -> NDArray[np.float32]:
        """A copy of rows [n, K] as [chunks, n, c], filled up after the last channel."""
        padding = -rows.shape[1] % self.chunk
        padded: NDArray[np.float32] = np.pad(rows, ((0, 0), (0, padding)), constant_values=fill)
        chunks: NDArray[np.float32] = padded.reshape(len(rows), -1, self.chunk).transpose(1, 0, 2)
        return chunks

    def _file(self, weight: str) -> Path:
        return self.folder / f"{weight}.npy"


def _squares(vectors: Doubles) -> Doubles:
    """v v' of each row of [chunks, c]."""
    squares: Doubles = vectors[:, :, None] * vectors[:, None]
    return squares
