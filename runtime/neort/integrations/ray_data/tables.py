"""Rows of Arrow tables as records, and records' results as columns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ...batches import Record, Result
from ...errors import ConfigError
from ...model import Model
from .libraries import pa
from .works import PLACE, Work

__all__ = ["seed_index", "table_records", "with_results"]

DIGEST_BYTES = 8
PLACE_TYPES = {"error": pa.string(), "index": pa.int64(), "digest": pa.string()}


def table_records(table: pa.Table, indices: Sequence[int], work: Work, prompt_key: str) -> list[Record]:
    """A record for each row, with the values that the work needs. Raises ConfigError for a column that is missing."""
    needed = [prompt_key, *work.needed]
    missing = next((name for name in needed if name not in table.column_names), None)
    if missing is not None:
        raise ConfigError(f"the table has no column {missing}; it has {', '.join(table.column_names)}")
    rows = table.select(needed).to_pylist()
    return [
        Record.of_members(index, _digest(row[prompt_key]), 0, row, prompt_key)
        for index, row in zip(indices, rows, strict=True)
    ]


def with_results(
    table: pa.Table, results: Sequence[Result], work: Work, model: Model, place: Sequence[str] = PLACE
) -> pa.Table:
    """The table with columns for what came of its rows, in the place of those that it has of these names.

    ``place`` says which of the error, index and digest are among them. Raises ConfigError where the table has a column
    of the name that results are given.
    """
    if work.output_key in table.column_names:
        raise ConfigError(
            f"the table has a column {work.output_key} of its own; give the results another name by --output-key"
        )
    columns = {**work.columns(model), **{name: PLACE_TYPES[name] for name in place}}
    kept = table.select([name for name in table.column_names if name not in columns])
    for name, kind in columns.items():
        kept = kept.append_column(name, pa.array([result.get(name) for _, result in results], kind))
    return kept


def seed_index(value: object) -> int:
    """The number that a row's seed is counted from: an id that is a whole number from 0 on, else a hash below 2^48."""
    if isinstance(value, int) and value >= 0:
        return value
    return int.from_bytes(_hash(value).digest()[:6], "big")


def _digest(prompt: object) -> str:
    return _hash(prompt).hexdigest()


def _hash(value: object) -> hashlib.blake2b:
    text = value if isinstance(value, str) else repr(value)
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=DIGEST_BYTES)
