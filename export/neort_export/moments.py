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

CHUNK = 256  # channels; a multiple of every block size


class Moments:
    """The moments of each layer by the name of its weight, in a scratch folder."""

    def __init__(self, folder: Path, chunk: int = CHUNK) -> None:
        """``folder`` is created; ``remove`` deletes it."""
        folder.mkdir()
        self.folder = folder
        self.chunk = chunk
        self._counts: dict[str, int] = {}
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._folds: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}

    def add(self, weight: str, rows: NDArray[np.float32]) -> None:
        """Count the input rows [n, K] of a layer."""
        cut = self._chunks(rows)  # [chunks, n, c]
        products = cut.transpose(0, 2, 1) @ cut
        if weight in self._counts:
            products += np.load(self._file(weight))
        np.save(self._file(weight), products)
        self._counts[weight] = self._counts.get(weight, 0) + len(rows)
        self._sums[weight] = self._sums.get(weight, 0) + cut.sum(axis=1, dtype=np.float64)

    def fold(self, weight: str, shift: NDArray[np.float32], scale: NDArray[np.float32]) -> None:
        """From now on the layer's input is (x - shift) / scale."""
        self._folds[weight] = (self._chunks(shift[None])[:, 0], self._chunks(scale[None], fill=1)[:, 0])

    def read(self, weight: str) -> NDArray[np.float64]:
        """E[x x'] of each chunk of a layer's input channels, [chunks, c, c]; the last one is padded with zeros."""
        moments: NDArray[np.float64] = np.load(self._file(weight)).astype(np.float64) / self._counts[weight]
        if weight not in self._folds:
            return moments
        shift, scale = (part.astype(np.float64) for part in self._folds[weight])
        mixed = shift[:, :, None] * (self._sums[weight] / self._counts[weight])[:, None]
        moments += shift[:, :, None] * shift[:, None] - mixed - mixed.transpose(0, 2, 1)
        folded: NDArray[np.float64] = moments / (scale[:, :, None] * scale[:, None])
        return folded

    def remove(self) -> None:
        """Delete the scratch folder."""
        shutil.rmtree(self.folder)

    def _chunks(self, rows: NDArray[np.float32], fill: float = 0) -> NDArray[np.float32]:
        padding = -rows.shape[1] % self.chunk
        padded: NDArray[np.float32] = np.pad(rows, ((0, 0), (0, padding)), constant_values=fill)
        chunks: NDArray[np.float32] = padded.reshape(len(rows), -1, self.chunk).transpose(1, 0, 2)
        return chunks

    def _file(self, weight: str) -> Path:
        return self.folder / f"{weight}.npy"
