"""The files of results, as a sink of Ray Data's; and which parts have one, as its checkpoint.

Ray's own checkpoint is files of ids beside the results: a task that is tried again after its ids were committed, and
killed with its job, loses them (see docs/ray-data.md). Here a part is done when its file is there, and only then. What
a task of a killed job still writes afterwards is the same file with the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ray.data.checkpoint import CheckpointConfig, CheckpointManager
from ray.data.datasource import BlockBasedFileDatasink

from ...files import published_file, storage_errors
from .libraries import pa, ray
from .parts import found_parts, part_name

__all__ = ["CHECKPOINT", "ResultFiles", "checkpoint"]

CHECKPOINT = "_checkpoint"
GO_ON = "make room or allow it, and give the same command again: it goes on where this run ended"
FILTER_MEMORY = 64 << 20  # bytes of Ray's accounts for the actor that leaves out what is done


class ResultFiles(BlockBasedFileDatasink):  # type: ignore[misc]
    """Writes each row's content to the file of its part, whole or not at all, and on the disk."""

    def __init__(self, folder: Path, suffix: str) -> None:
        super().__init__(str(folder), file_format=suffix)
        self._folder, self._suffix = folder, suffix
        self.errors = 0

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> Any:
        """Write the rows of `actors.DONE`; how many results are errors, for `on_write_complete`."""
        errors = 0
        for block in blocks:
            for row in pa.table(block).to_pylist():
                file = self._folder / part_name(row["first"], self._suffix)
                with storage_errors("results", file, GO_ON), published_file(file, tidy=False) as stream:
                    stream.write(row["content"])
                errors += row["errors"]
        return errors

    def on_write_complete(self, write_result: Any) -> None:
        """Count the errors in what was written."""
        self.errors += sum(errors or 0 for errors in write_result.write_returns)


class DoneParts(CheckpointManager):  # type: ignore[misc]
    """Tells Ray's checkpoint filter which parts to leave out: those that have a file."""

    def load_checkpoint(self, data_file_dir: str | None = None, data_file_filesystem: Any = None) -> tuple[Any, int]:
        """The first records of these parts, sorted, as an object of Ray's, and its size in bytes."""
        done = np.array(sorted(found_parts(Path(data_file_dir or "."))), np.int64)
        return (ray.put(done), done.nbytes) if len(done) else (None, 0)


def checkpoint(folder: Path) -> CheckpointConfig:
    """Ray's checkpoint for results in ``folder``; nobody reads what it writes there itself, and it goes at the end."""
    config = CheckpointConfig("first", str(folder / CHECKPOINT), checkpoint_manager_cls=DoneParts)
    config.checkpoint_actor_pool_max_size = 1
    config.checkpoint_actor_memory_bytes = FILTER_MEMORY
    return config
