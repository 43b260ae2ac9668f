"""The arrays that modules pass to each other, by what is in them.

Shapes are written with T for tokens of a sequence, B for sequences, S for tokens of a run, V for the vocabulary, H for
heads, D for a head's dimension and M for the positions of a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AnyArray", "Doubles", "Floats", "Ids", "Lengths", "Logits", "Rows"]

#: An array of any element type.
AnyArray = NDArray[Any]

#: Token ids, mostly [T].
Ids = NDArray[np.int64]

#: Cached positions of each sequence, [B].
Lengths = NDArray[np.int32]

#: Logits of the next token, [V], or [n, V] for n positions.
Logits = NDArray[np.float32]

#: Numbers of the model's own precision, of any shape.
Floats = NDArray[np.float32]

#: Numbers in double precision, of any shape.
Doubles = NDArray[np.float64]

#: Cached keys and values of consecutive positions: per buffer, by its name, [H, positions, D].
Rows = dict[str, AnyArray]
