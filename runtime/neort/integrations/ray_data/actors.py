"""What runs in an actor: a model of its own, with the threads and CPUs that the actor was given."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from ...batches import RawRecord, Record, Result, line_of
from ...errors import ConfigError, StorageError
from ...kvcache import CacheType
from ...loading import MAX_BATCH_SIZE, load
from ...model import Model
from .cpus import own_folder, pin_to_own_cpus
from .libraries import pa, ray
from .parts import FileKind, Part, unpacked
from .tables import seed_index, table_records, with_results
from .works import Work

__all__ = ["AUTO", "PARTS", "PartActor", "Settings", "TableActor"]

AUTO = "auto"
PARTS = pa.schema([("first", pa.int64()), ("content", pa.large_binary())])
DONE = pa.schema([*PARTS, ("errors", pa.int64())])


@dataclass(frozen=True)
class Settings:
    """What an actor is told, on whichever node it is.

    ``packed_weights`` is a folder, "auto" for one of the user's own in each node's temporary folder, or None.
    """

    bundle: str
    work: Work
    prompt_key: str = "prompt"
    max_batch_size: int = MAX_BATCH_SIZE
    kv_cache: CacheType = "fp32"
    packed_weights: str | None = AUTO
    pinned: bool = True


class ModelActor:
    """A model that actors of any kind have."""

    def __init__(self, settings: Settings) -> None:
        """Raises what `neort.load` does."""
        self.settings = settings
        threads = max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
        self.cpus = pin_to_own_cpus(threads) if settings.pinned else ()
        self.model = _loaded(settings, threads)

    def results(self, records: list[Record]) -> list[Result]:
        """Each record with its result, in order."""
        return self.settings.work.results(self.model, records)


class PartActor(ModelActor):
    """Makes the contents of result files of parts."""

    def __init__(self, settings: Settings, kind: FileKind) -> None:
        """``kind`` is the input's format, which the results have, too, but that lines become objects."""
        super().__init__(settings)
        self.kind = kind

    def __call__(self, batch: pa.Table) -> pa.Table:
        """A row of `DONE` for each row of `PARTS`."""
        rows = [self._done(row["first"], row["content"]) for row in batch.to_pylist()]
        return pa.Table.from_pylist(rows, schema=DONE)

    def _done(self, first: int, content: bytes) -> dict[str, Any]:
        part = unpacked(first, content)
        results = self.results(self._records(part))
        errors = sum("error" in result for _, result in results)
        made = (
            self._parquet(part, results) if self.kind == "parquet" else b"".join(line_of(each) for _, each in results)
        )
        return {"first": first, "content": made, "errors": errors}

    def _records(self, part: Part) -> list[Record]:
        work, key = self.settings.work, self.settings.prompt_key
        if self.kind == "parquet":
            return table_records(part.table, range(part.first, part.first + len(part.table)), work, key)
        return [
            RawRecord(index, row["digest"], 0, row["raw"]).parsed(self.kind, key)
            for index, row in enumerate(part.table.to_pylist(), part.first)
        ]

    def _parquet(self, part: Part, results: list[Result]) -> bytes:
        import pyarrow.parquet as pq

        file = BytesIO()
        pq.write_table(with_results(part.table, results, self.settings.work, self.model), file)
        return file.getvalue()


class TableActor(ModelActor):
    """Adds columns to the rows of any dataset."""

    def __init__(self, settings: Settings, id_key: str | None) -> None:
        """``id_key`` is the column with the rows' ids, from which their seeds follow."""
        super().__init__(settings)
        self.id_key = id_key

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch with the results of its rows."""
        work = self.settings.work
        records = table_records(batch, self._indices(batch), work, self.settings.prompt_key)
        return with_results(batch, self.results(records), work, self.model, ["error"])

    def _indices(self, batch: pa.Table) -> list[int]:
        if self.id_key is None:
            return list(range(len(batch)))
        if self.id_key not in batch.column_names:
            raise ConfigError(f"the table has no column {self.id_key}; it has {', '.join(batch.column_names)}")
        return [seed_index(value) for value in batch[self.id_key].to_pylist()]


def _loaded(settings: Settings, threads: int) -> Model:
    """The model; where no folder was named for its packed weights and there is no room for them, without."""
    how: dict[str, Any] = {
        "num_threads": threads,
        "max_batch_size": settings.max_batch_size,
        "kv_cache": settings.kv_cache,
    }
    if settings.packed_weights != AUTO:
        return load(settings.bundle, packed_weights=settings.packed_weights, **how)
    folder = own_folder("packed")
    if folder is not None:
        with contextlib.suppress(StorageError):
            return load(settings.bundle, packed_weights=folder, **how)
    return load(settings.bundle, **how)
