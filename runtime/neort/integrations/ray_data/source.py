"""The parts of an input as a source of Ray Data's."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from .actors import PARTS
from .libraries import pa
from .parts import FileKind, InputFile, parts_of

__all__ = ["Parts"]


class Parts(Datasource):  # type: ignore[misc]
    """A row of `actors.PARTS` for each part: one task reads one file from its beginning to its end."""

    def __init__(self, files: list[InputFile], kind: FileKind, size: int) -> None:
        """``size`` is how many records a part has, but the last one of a file."""
        super().__init__()
        self._files, self._kind, self._size = files, kind, size

    def estimate_inmemory_data_size(self) -> int | None:
        """Nobody knows."""
        return None

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None) -> Any:
        """One for each file that has records, however many are wished."""
        return [self._task(file) for file in self._files if file.records]

    def _task(self, file: InputFile) -> Any:
        count = -(-file.records // self._size)
        facts = BlockMetadata(num_rows=count, size_bytes=None, input_files=[file.path], exec_stats=None)
        return ReadTask(functools.partial(_blocks, file, self._kind, self._size), facts, schema=PARTS)


def _blocks(file: InputFile, kind: FileKind, size: int) -> Iterator[pa.Table]:
    for part in parts_of(file, kind, size):
        yield pa.Table.from_pylist([{"first": part.first, "content": part.packed()}], schema=PARTS)
