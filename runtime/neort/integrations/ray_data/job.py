"""A job: the files of an input, through actors, into a folder of results; as often as it takes."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.data import ActorPoolStrategy, DataContext

from ...batches import check_facts, facts_of, locked, read_facts, write_facts
from ...bundle import Bundle
from ...errors import ConfigError, StorageError
from ...files import storage_errors
from .actors import PartActor, Settings
from .cluster import Pool, Shares, connected
from .libraries import ray
from .parts import FileKind, InputFile, described, errors_in, found_files, found_parts, placed, remove_partial
from .results import CHECKPOINT, GO_ON, ResultFiles, checkpoint
from .source import Parts

__all__ = ["Job", "Outcome"]

FACTS = "_run.json"
LOCK = ".results.lock"
SIZE = "records_per_file"
MOST_RECORDS = 256  # of a part whose size nobody gave
FILES_OF_A_TASK = 256  # of results, whose errors are counted
PARTS_OF_AN_ACTOR = 8  # at least, where nobody gave a size: the last ones are not left to one actor
ANEW = "give another OUTPUT, or --overwrite to begin anew"
AT_ONCE = 2  # parts that an actor has: while one comes to its end the other fills the model's slots


@dataclass(frozen=True)
class Outcome:
    """Parts in all, those that had a file before; and results in all, and how many of them are errors."""

    parts: int
    before: int
    records: int = 0
    errors: int = 0


@dataclass(frozen=True)
class Job:
    """Files, what is to be done with their records, and the folder for what comes of it."""

    files: list[str]
    kind: FileKind
    output: Path
    settings: Settings
    pool: Pool
    records_per_file: int | None = None
    overwrite: bool = False

    def run(self, began: Callable[[Outcome], None] = lambda _: None) -> Outcome:
        """Write what is missing; ``began`` is told what there is, once that is known.

        Raises ConfigError where the folder has results of another job, or files of the input, StorageError where it
        cannot be written or another process writes it, PromptError for an input that cannot be read.
        """
        if within := next((file for file in self.files if Path(file).parent == self.output), None):
            raise ConfigError(f"{within} is in the folder for results, which holds nothing else; give another OUTPUT")
        with contextlib.ExitStack() as stack:
            with storage_errors("results", self.output, GO_ON):
                self.output.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self.output, file=self.output / LOCK, option="OUTPUT"))
            return self._write(stack.enter_context(connected(self.pool)), began)

    def _write(self, shares: Shares, began: Callable[[Outcome], None]) -> Outcome:
        describe = ray.remote(described)
        files = placed(ray.get([describe.remote(file, self.kind) for file in self.files]))
        with storage_errors("results", self.output, GO_ON):
            size = self._agreed_size(files, shares.workers)
        parts = {first for file in files for first in range(file.first, file.first + file.records, size)}
        done = found_parts(self.output)
        if strange := done - parts:
            raise ConfigError(f"{self.output} has a part {min(strange)} that this input lacks; {ANEW}")
        began(Outcome(len(parts), len(done)))
        errors = self._errors()
        shutil.rmtree(self.output / CHECKPOINT, ignore_errors=True)
        if done != parts:
            errors += self._flow(files, size, shares).errors
        remove_partial(self.output)
        if missing := parts - found_parts(self.output):
            raise StorageError(f"{len(missing)} of {len(parts)} parts have no file in {self.output}; {GO_ON}")
        return Outcome(len(parts), len(done), sum(file.records for file in files), errors)

    def _errors(self) -> int:
        """How many of the results that are there are errors."""
        files, count = found_files(self.output), ray.remote(errors_in)
        starts = range(0, len(files), FILES_OF_A_TASK)
        return sum(ray.get([count.remote(files[start : start + FILES_OF_A_TASK]) for start in starts]))

    def _agreed_size(self, files: list[InputFile], workers: int) -> int:
        """How many records a part has: as in runs before, if there were any. Raises ConfigError for another job's."""
        file, bundle, work = self.output / FACTS, Bundle(self.settings.bundle), self.settings.work
        if self.overwrite:
            self._clear()
        config, others = work.facts(bundle)
        facts = facts_of(
            bundle,
            config,
            work=type(work).__name__.lower(),
            input_format=self.kind,
            input=_identity(files),
            kv_cache=self.settings.kv_cache,
            prompt_key=self.settings.prompt_key,
            **others,
        )
        earlier = read_facts(file)
        size = self.records_per_file or (earlier or {}).get(SIZE) or self._size_for(files, workers)
        facts[SIZE] = size
        if earlier is not None or found_parts(self.output):
            check_facts(file, facts, self.output)
        else:
            write_facts(file, facts)
        return int(size)

    def _size_for(self, files: list[InputFile], workers: int) -> int:
        share = sum(file.records for file in files) // (workers * PARTS_OF_AN_ACTOR)
        return max(1, min(MOST_RECORDS, share))

    def _clear(self) -> None:
        (self.output / FACTS).unlink(missing_ok=True)
        for file in found_files(self.output):
            Path(file).unlink()

    def _flow(self, files: list[InputFile], size: int, shares: Shares) -> ResultFiles:
        """Read, map and write what Ray's checkpoint filter leaves."""
        with storage_errors("results", self.output, GO_ON):
            (self.output / CHECKPOINT).mkdir(exist_ok=True)
        sink = ResultFiles(self.output, "parquet" if self.kind == "parquet" else "jsonl")
        pool = ActorPoolStrategy(
            size=shares.workers,
            max_tasks_in_flight_per_actor=AT_ONCE,
            max_concurrent_calls_per_actor=AT_ONCE,
            enable_true_multi_threading=True,
        )
        with DataContext.current(self._context()):
            ray.data.read_datasource(Parts(files, self.kind, size), num_cpus=0).map_batches(
                PartActor,
                fn_constructor_args=(self.settings, self.kind),
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=shares.threads,
                compute=pool,
            ).write_datasink(sink, ray_remote_args={"num_cpus": 0})
        return sink

    def _context(self) -> DataContext:
        """What Ray Data goes by; that of other datasets stays as it is."""
        context = DataContext.get_current().copy()
        context.checkpoint_config = checkpoint(self.output)
        context.target_max_block_size = 1  # byte: each part is a block of its own
        context.enable_progress_bars = False
        return context


def _identity(files: list[InputFile]) -> dict[str, Any]:
    """What tells an input from others, wherever its files are."""
    hashed = hashlib.blake2b(digest_size=16)
    for file in files:
        hashed.update(f"{file.records} {file.digest}\n".encode())
    return {"files": len(files), "records": sum(file.records for file in files), "digest": hashed.hexdigest()}
