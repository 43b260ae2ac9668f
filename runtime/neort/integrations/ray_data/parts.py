"""A job's input as parts: a few consecutive records of one file, named by the index of the first one.

Indices run on from file to file, in the order in which the files are given. Knows files; knows nothing about Ray.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...batches import RawRecord, raw_records
from ...errors import ConfigError, PromptError, StorageError
from ...files import PARTIAL, remove_leftovers, storage_errors
from ...paths import open_regular
from .libraries import pa

__all__ = [
    "FILE_KINDS",
    "FileKind",
    "InputFile",
    "Part",
    "described",
    "errors_in",
    "file_kind",
    "found_files",
    "found_parts",
    "input_files",
    "part_name",
    "parts_of",
    "placed",
    "remove_partial",
    "unpacked",
]

FileKind = Literal["jsonl", "lines", "parquet"]
FILE_KINDS: tuple[FileKind, ...] = ("jsonl", "lines", "parquet")
SUFFIXES: dict[str, FileKind] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
NAME = re.compile(r"part-(\d{12,})\.(jsonl|parquet)")
ROWS_AT_A_TIME = 1024
RAW = pa.schema([("digest", pa.string()), ("raw", pa.large_binary())])


@dataclass(frozen=True)
class InputFile:
    """A file of prompts, and where its records are among those of all files."""

    path: str
    digest: str
    records: int
    first: int = 0


@dataclass(frozen=True)
class Part:
    """Records of a file as an Arrow table: its rows where it is a Parquet file, else what there is of each line."""

    first: int
    table: pa.Table

    def packed(self) -> bytes:
        """The table as bytes, for a column of a dataset."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        content: bytes = sink.getvalue().to_pybytes()
        return content


def unpacked(first: int, content: bytes) -> Part:
    """The part that was `Part.packed`."""
    return Part(first, pa.ipc.open_stream(content).read_all())


def file_kind(path: str) -> FileKind:
    """The format that a file's name stands for. Raises ConfigError where it stands for none."""
    kind = SUFFIXES.get(Path(path).suffix.lower())
    if kind is None:
        raise ConfigError(f"the name of {path} says nothing of its format; give --input-format, one of {_kinds()}")
    return kind


def input_files(names: Sequence[str], kind: FileKind | None) -> tuple[list[str], FileKind]:
    """The files that are named, those of folders in the order of their names, and their format.

    Raises ConfigError where there are none, or several formats; PromptError for what is not there.
    """
    files = [file for name in names for file in _files(name, kind)]
    if not files:
        raise ConfigError(f"there is no file of prompts in {', '.join(names)}; it must be one of {_kinds()}")
    kinds = {file_kind(file) for file in files} if kind is None else {kind}
    if len(kinds) > 1:
        raise ConfigError(f"the input has files of several formats, {', '.join(sorted(kinds))}; give one job for each")
    return files, kinds.pop()


def described(path: str, kind: FileKind) -> InputFile:
    """A file with its number of records and a digest of them, for which it is read once.

    Raises PromptError where it cannot be read.
    """
    try:
        if kind == "parquet":
            return _described_parquet(path)
        hashed, records = _hash(), 0
        with open(path, "rb") as stream:
            for record in raw_records(stream, kind):
                hashed.update(record.digest.encode())
                records += 1
        return InputFile(path, hashed.hexdigest(), records)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def placed(files: Iterable[InputFile]) -> list[InputFile]:
    """The files with the indices of their first records."""
    found: list[InputFile] = []
    for file in files:
        found.append(replace(file, first=found[-1].first + found[-1].records if found else 0))
    return found


def parts_of(file: InputFile, kind: FileKind, size: int) -> Iterator[Part]:
    """The parts of a file, up to ``size`` records each. Raises PromptError where it cannot be read."""
    try:
        yield from _parts_of_parquet(file, size) if kind == "parquet" else _parts_of_lines(file, kind, size)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(file.path, error) from None


def part_name(first: int, suffix: str) -> str:
    """The name of the file with a part's results; names are in the order of records."""
    return f"part-{first:012}.{suffix}"


def found_parts(folder: Path) -> set[int]:
    """The first records of the parts that have a file in a folder."""
    return {first for first, _ in _found(folder)}


def found_files(folder: Path) -> list[str]:
    """The files of parts in a folder."""
    return [file for _, file in _found(folder)]


def remove_partial(folder: Path) -> None:
    """Remove what killed tasks have left of files of parts in a folder; see `remove_leftovers`."""
    mark = f".{PARTIAL}-"
    for name in {file.name[1:].partition(mark)[0] for file in folder.glob(f".part-*{mark}*")}:
        remove_leftovers(folder / name)


def errors_in(files: Sequence[str]) -> int:
    """How many results in files of parts are errors. Raises StorageError for one that cannot be read."""
    return sum(map(_errors_in, files))


def _found(folder: Path) -> list[tuple[int, str]]:
    with storage_errors("results", folder, "name a folder that can be read"), os.scandir(folder) as entries:
        named = ((NAME.fullmatch(entry.name), entry.path) for entry in entries)
        return [(int(name[1]), path) for name, path in named if name]


def _errors_in(file: str) -> int:
    import pyarrow.parquet as pq

    try:
        with open(file, "rb") as stream:
            if file.endswith(".parquet"):
                column = pq.ParquetFile(stream).read(["error"])["error"]
                return int(len(column) - column.null_count)
            return sum(b'"error"' in line and "error" in json.loads(line) for line in stream)
    except (OSError, ValueError, pa.ArrowException) as error:
        why = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{file} cannot be read ({why}); allow it, or remove a damaged file, and give the same command again"
        ) from None


def _parts_of_lines(file: InputFile, kind: Literal["jsonl", "lines"], size: int) -> Iterator[Part]:
    with open(file.path, "rb") as stream:
        records = raw_records(stream, kind, file.first)
        while some := list(itertools.islice(records, size)):
            yield Part(some[0].index, _raw_table(some))


def _raw_table(records: Sequence[RawRecord]) -> pa.Table:
    columns = [[record.digest for record in records], [record.raw for record in records]]
    return pa.table(columns, schema=RAW)


def _described_parquet(path: str) -> InputFile:
    import pyarrow.parquet as pq

    with open_regular(Path(path)) as stream:
        digest = hashlib.file_digest(stream, _hash).hexdigest()
    return InputFile(path, digest, pq.read_metadata(path).num_rows)


def _parts_of_parquet(file: InputFile, size: int) -> Iterator[Part]:
    import pyarrow.parquet as pq

    first, rest = file.first, None
    with pq.ParquetFile(file.path) as opened:
        for batch in opened.iter_batches(batch_size=max(size, ROWS_AT_A_TIME)):
            table = pa.Table.from_batches([batch])
            rest = table if rest is None else pa.concat_tables([rest, table])
            while len(rest) >= size:
                yield Part(first, rest.slice(0, size).combine_chunks())
                first, rest = first + size, rest.slice(size)
    if rest is not None and len(rest):
        yield Part(first, rest.combine_chunks())


def _files(name: str, kind: FileKind | None) -> list[str]:
    if "://" in name:
        raise ConfigError(f"{name} is no path; name files on a file system that all nodes of the cluster see")
    path = Path(name)
    if not path.is_dir():
        if not path.exists():
            raise PromptError(f"{name} is not there; give a file or a folder with prompts")
        return [str(path.resolve())]
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name[0] not in "._")
    return [str(file.resolve()) for file in files if kind is not None or file.suffix.lower() in SUFFIXES]


def _unreadable(path: str, error: Exception) -> PromptError:
    return PromptError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); give a file with prompts")


def _hash() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _kinds() -> str:
    return ", ".join(FILE_KINDS)
