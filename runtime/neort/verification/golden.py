"""Golden logits: the largest logits at a few positions of a text, as a bundle's graph computed them at the export.

Knows their form and what verification.json may say about them; runs no model.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Doubles, Floats, Ids
from ..bundle import ModelSpec
from ..errors import BundleError
from ..generation import log_softmax
from ..wording import shortened

__all__ = ["LEAST_TOKENS", "REMEDY", "Golden", "largest_tolerance", "log_sum_exp", "record_golden"]

REMEDY = "copy or export the bundle again, or measure it anew with neort-export verify"
TOP = 16  # golden logits per position
MOST_TOP = 1024
LEAST_TOKENS = 4  # of a text that can be cut into a batch
LARGEST_NUMBER = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Golden:
    """Logits to compare with: for n positions of ``token_ids`` [T] the ids of the k largest, and their logits, [n, k].

    ``log_sum_exp`` [n] is that of all logits at each position; ``tolerance`` is how far another processor's may be.
    """

    token_ids: Ids
    positions: Ids
    top_ids: Ids
    top_logits: Doubles
    log_sum_exp: Doubles
    tolerance: float

    @classmethod
    def read(cls, content: object, name: str, spec: ModelSpec, file: Path) -> Golden:
        """Take the golden logits that verification.json has under ``name``.

        Raises BundleError, which names the ``file``, the value and the remedy, for what is none.
        """
        return _Reader(content, name, spec, file).golden()


def record_golden(logits: Floats, token_ids: Ids, positions: Sequence[int], tolerance: float) -> dict[str, Any]:
    """Return what verification.json stores of ``logits`` [n, V] at n positions: the largest, and the log-sum-exp.

    ``tolerance`` becomes `largest_tolerance` where it is more.
    """
    top = np.argsort(-logits, axis=-1, kind="stable")[:, :TOP]
    top_logits = np.take_along_axis(logits, top, axis=-1)
    return {
        "token_ids": token_ids.tolist(),
        "positions": list(positions),
        "top_ids": top.tolist(),
        "top_logits": [[float(x) for x in row] for row in top_logits],
        "log_sum_exp": [float(x) for x in log_sum_exp(logits)],
        "tolerance": min(tolerance, largest_tolerance(top_logits)),
    }


def largest_tolerance(top_logits: Floats | Doubles) -> float:
    """Return the largest tolerance that still tells logits from others of the same size."""
    return max(1.0, 2 * float(np.abs(top_logits).max()))


def log_sum_exp(logits: Floats) -> Doubles:
    """Return the log-sum-exp [n] of ``logits`` [n, V]."""
    return (logits.astype(np.float64) - log_softmax(logits))[..., 0]


class _Reader:
    """Reads golden logits of unknown origin."""

    def __init__(self, content: object, name: str, spec: ModelSpec, file: Path) -> None:
        self._content, self._name, self._spec, self._file = content, name, spec, file

    def golden(self) -> Golden:
        """All of them. Raises BundleError."""
        spec = self._spec
        ids = self._whole_numbers("token_ids", spec.vocab_size)
        if not LEAST_TOKENS <= len(ids) <= spec.max_position_embeddings:
            raise self._error(
                "token_ids", f"which are {len(ids)} and must be {LEAST_TOKENS} to {spec.max_position_embeddings}"
            )
        positions = self._whole_numbers("positions", len(ids))
        if not positions or any(later <= earlier for earlier, later in itertools.pairwise(positions)):
            raise self._error("positions", "which must be one or more, in ascending order")
        top_ids = self._table("top_ids", len(positions))
        if not all(_whole(x, spec.vocab_size) for row in top_ids for x in row):
            raise self._error("top_ids", f"which must be token ids from 0 to {spec.vocab_size - 1}")
        top_logits = self._table("top_logits", len(positions))
        if len(top_logits[0]) != len(top_ids[0]):
            raise self._error("top_logits", f"which must have {len(top_ids[0])} numbers in each list, as top_ids has")
        self._check_numbers("top_logits", [x for row in top_logits for x in row])
        sums = self._list("log_sum_exp")
        if len(sums) != len(positions):
            raise self._error("log_sum_exp", f"which must be {len(positions)} numbers, as there are positions")
        self._check_numbers("log_sum_exp", sums)
        logits = np.array(top_logits, np.float64)
        return Golden(
            np.array(ids, np.int64),
            np.array(positions, np.int64),
            np.array(top_ids, np.int64),
            logits,
            np.array(sums, np.float64),
            self._tolerance(largest_tolerance(logits)),
        )

    def _error(self, key: str, complaint: str) -> BundleError:
        return BundleError(f"{self._file} has {self._name}.{key} {shortened(self._value(key))}, {complaint}; {REMEDY}")

    def _value(self, key: str) -> Any:
        if not isinstance(self._content, Mapping) or key not in self._content:
            raise BundleError(f"{self._file} holds no golden logits {self._name}.{key}; {REMEDY}")
        return self._content[key]

    def _list(self, key: str) -> list[Any]:
        value = self._value(key)
        if not isinstance(value, list):
            raise self._error(key, "which must be a list")
        return value

    def _whole_numbers(self, key: str, stop: int) -> list[int]:
        numbers = self._list(key)
        if not all(_whole(x, stop) for x in numbers):
            raise self._error(key, f"which must be whole numbers from 0 to {stop - 1}")
        return numbers

    def _table(self, key: str, rows: int) -> list[list[Any]]:
        """A list of lists of one length."""
        table = self._list(key)
        columns = {len(row) if isinstance(row, list) else 0 for row in table}
        if len(table) != rows or len(columns) != 1 or not 1 <= next(iter(columns)) <= MOST_TOP:
            raise self._error(key, f"which must be {rows} lists, one a position, of equally many, 1 to {MOST_TOP}")
        return table

    def _check_numbers(self, key: str, numbers: list[Any]) -> None:
        if not all(_number(x, LARGEST_NUMBER) for x in numbers):
            raise self._error(key, "which must be finite numbers")

    def _tolerance(self, limit: float) -> float:
        value = self._value("tolerance")
        if not _number(value, limit) or value < 0:
            raise self._error("tolerance", f"which must be a number from 0 to {limit:g}, twice the largest logit")
        return float(value)


def _whole(value: object, stop: int) -> bool:
    return type(value) is int and 0 <= value < stop


def _number(value: object, limit: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -limit <= value <= limit
