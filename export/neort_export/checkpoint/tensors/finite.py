"""NaN and infinities in weights: where the first one is, and the sentence for those that quantizing would make."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import CheckpointError

__all__ = ["first_not_finite", "refuse_overflow"]


def first_not_finite(array: NDArray[np.floating], start: int = 0, axes: tuple[str, str] = ("row", "column")) -> str:
    """Name the first NaN or infinity of a vector or a matrix, such as "NaN in row 3, column 5"; empty for finite ones.

    ``start`` is the number of the first row, ``axes`` are the words for its axes. A finite array is read once.
    """
    finite = np.isfinite(array)
    if finite.all():
        return ""
    index = np.unravel_index(int(finite.argmin()), array.shape)
    value = array[index]
    kind = "NaN" if np.isnan(value) else "infinity" if value > 0 else "-infinity"
    numbers = (int(index[0]) + start, *map(int, index[1:]))
    return f"{kind} in " + ", ".join(f"{axis} {number}" for axis, number in zip(axes, numbers, strict=False))


def refuse_overflow(
    name: str | None, array: NDArray[np.floating], start: int = 0, axes: tuple[str, str] = ("row", "column")
) -> None:
    """Raise CheckpointError where what was computed from the finite weights ``name`` has left float32's range."""
    where = first_not_finite(array, start, axes)
    if where:
        raise CheckpointError(
            f"quantizing {name!r} gives {where}: its weights, or the values that it reads, are near float32's limit of "
            "3.4e38; export the checkpoint with --quantization fp32, which keeps weights as they are"
        )
