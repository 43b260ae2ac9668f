"""One tensor on disk, whatever the format of its file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from neort.wording import shortened

from ...errors import CheckpointError
from ..reading import unreadable
from .finite import first_not_finite

__all__ = ["Floats", "StoredTensor"]

Floats = NDArray[np.float32]

FLOATS = ("float32", "float16", "bfloat16", "float64")
COMPARED_ROWS = 4096  # of two matrices in memory at a time
COLUMN_ROWS = 512  # rows of a transposed tensor's file in memory at a time


Reader = Callable[[int, int | None], torch.Tensor]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor's file, its name there, its shape, its dtype such as "bfloat16", and a reader of its rows start:stop.

    ``read_columns`` reads columns start:stop of all rows of a matrix, where the file's format allows that;
    ``transposes`` says that rows here are columns of the file.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    read_stored: Reader
    read_columns: Reader | None = None
    transposes: bool = False

    def read(self, start: int = 0, stop: int | None = None) -> Floats:
        """Read rows ``start:stop`` as float32. Raises CheckpointError where one is NaN or infinite."""
        try:
            rows: Floats = self.read_stored(start, stop).to(torch.float32).contiguous().numpy()
        except OSError as error:
            raise unreadable(self.file, error) from error
        where = first_not_finite(rows, start, ("column", "row") if self.transposes else ("row", "column"))
        if where:
            raise CheckpointError(
                f"{self.file}: tensor {self.name!r} has {where}; such weights cannot be exported in any format: fetch "
                "or convert the checkpoint again, or take an earlier one if its training has diverged"
            )
        return rows

    def as_in_file(self, shape: tuple[int, ...]) -> list[int]:
        """Return a shape as the file has it."""
        return list(shape[::-1] if self.transposes else shape)

    @property
    def is_stub(self) -> bool:
        """Whether it has the shape of what DeepSpeed leaves in a divided tensor's place: no number, or formerly one."""
        return math.prod(self.shape) == 0 or self.shape == (1,)

    def check_dtype(self) -> None:
        """Raise CheckpointError for a tensor that is not read as float32."""
        if self.dtype not in FLOATS:
            raise CheckpointError(
                f"{self.file}: tensor {shortened(self.name)} is {self.dtype}; export reads {', '.join(FLOATS[:-1])} "
                f"and {FLOATS[-1]}: save the model in one of them"
            )

    def equals(self, other: StoredTensor) -> bool:
        """Say whether another matrix has the same numbers, a block of rows in memory at a time."""
        if self.shape != other.shape:
            return False
        for start in range(0, self.shape[0], COMPARED_ROWS):
            blocks = [t.read_stored(start, start + COMPARED_ROWS).to(torch.float32) for t in (self, other)]
            if not torch.equal(*blocks):
                return False
        return True

    def transposed(self) -> StoredTensor:
        """Return the matrix [N, K] of a file that has it as [K, N].

        Reading rows of it reads the whole matrix of a file from which no columns can be read.
        """
        read_columns = self.read_columns

        def columns(start: int, stop: int | None) -> torch.Tensor:
            if read_columns is not None:
                return read_columns(start, stop).T
            count = self.shape[0]
            steps = ((i, min(i + COLUMN_ROWS, count)) for i in range(0, count, COLUMN_ROWS))
            return torch.cat([self.read_stored(*limits)[:, start:stop] for limits in steps]).T

        return StoredTensor(self.file, self.name, self.shape[::-1], self.dtype, columns, transposes=True)
