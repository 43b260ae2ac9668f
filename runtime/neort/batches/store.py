"""A file of results that only grows, and that a later run continues: no record twice, none lost.

Line i is record i's result, with a digest of the record. Beside the file, NAME.run.json says what all results have in
common: the model, the options, how the input is read. A run that finds both goes on after the last whole line, if its
own facts and its input are those; what a killed run left of a line is cut off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..bundle import Bundle
from ..errors import ConfigError, StorageError
from ..files import FileLock, published_file, storage_errors
from ..generation import GenerationConfig
from ..wording import is_utf8, shortened
from .records import Record

__all__ = ["ResultFile", "check_facts", "facts_of", "line_of", "locked", "read_facts", "write_facts"]

GO_ON = "make room or allow it, and give the same command again: it goes on where this run ended"
ANEW = "give another --output, or --overwrite to begin anew"
LARGEST_FACTS = 1 << 20  # bytes


def facts_of(bundle: Bundle, config: GenerationConfig | None, **others: Any) -> dict[str, Any]:
    """What results have in common: the model, the options if there are any, and ``others``, in JSON's own types."""
    fields = () if config is None else dataclasses.fields(config)
    options = {field.name: _plain(getattr(config, field.name)) for field in fields}
    return {"model": bundle.model_hash("decoder.onnx"), **others, **options}


def line_of(result: dict[str, Any]) -> bytes:
    """A result as a line of JSON."""
    text = json.dumps(result, ensure_ascii=False)
    return (text if is_utf8(text) else json.dumps(result)).encode() + b"\n"


def _plain(value: object) -> object:
    """A value as it is when it comes back from JSON; one that JSON has no word for as its repr."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return repr(value)


class ResultFile:
    """Results that were written, and those to come.

    Attributes:
        done: how many records have a result.
        failed: how many of these results are errors.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.done = self.failed = 0
        self._stream = stream
        self._end = 0

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path, facts: dict[str, Any], *, overwrite: bool = False) -> Iterator[ResultFile]:
        """Open a file of results for this process alone; a new one, or one with the same ``facts``.

        Where ``path`` is a link, what it points to is meant. Raises ConfigError where there is a file with other facts,
        or with none, StorageError where it is no regular file, cannot be written, or another process writes it.
        """
        path = Path(os.path.realpath(path))
        if path.exists() and not path.is_file():
            raise StorageError(f"results cannot be written to {path}, which is no regular file; give a file's name")
        with storage_errors("results", path, GO_ON), locked(path):
            if path.exists() and not overwrite:
                check_facts(_facts_file(path), facts, path)
            else:
                path.unlink(missing_ok=True)  # before its facts become others
                write_facts(_facts_file(path), facts)
            with open(path, "r+b" if path.exists() else "x+b", buffering=0) as file:
                yield cls(path, file)
                _synchronize(file)

    def skip_done(self, records: Iterator[Record], source: str) -> None:
        """Take the records that have a result from ``records``, which are those of ``source``.

        Raises ConfigError where a result is of another record, or of none.
        """
        self._stream.seek(0)
        with open(self._stream.fileno(), "rb", closefd=False) as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break  # cut short by a kill
                result = _parsed(line)
                record = next(records, None)
                if result is None or record is None or result.get("digest") != record.digest:
                    raise ConfigError(_mismatch(self.path, source, self.done, record, result))
                self.done += 1
                self.failed += "error" in result
                self._end += len(line)
        self._cut()

    def append(self, result: dict[str, Any]) -> None:
        """Write one result, whole or not at all. Raises StorageError."""
        line = line_of(result)
        try:
            with storage_errors(f"record {self.done}'s result", self.path, GO_ON):
                _write_all(self._stream, line)
        except BaseException:
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self._end += len(line)
        self.done += 1
        self.failed += "error" in result

    def _cut(self) -> None:
        """Leave whole lines alone in the file."""
        self._stream.truncate(self._end)
        self._stream.seek(self._end)


def _write_all(stream: BinaryIO, line: bytes) -> None:
    view = memoryview(line)
    while view:
        view = view[stream.write(view) :]  # a disk that fills up takes a part


@contextlib.contextmanager
def locked(path: Path, *, file: Path | None = None, option: str = "--output") -> Iterator[None]:
    """Have a file or folder of results for this process alone, by a lock at ``file``, else beside it.

    ``option`` is what names another one. Raises StorageError where another process writes it.
    """
    lock = FileLock(file or path.with_name(f".{path.name}.lock"))
    try:
        if lock.take() is False:
            raise StorageError(f"{path} is being written by another process; wait for it, or give another {option}")
        yield
    finally:
        lock.remove()


def _facts_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.run.json")


def write_facts(file: Path, facts: dict[str, Any]) -> None:
    """Write what results have in common, for `check_facts`. Raises OSError, StorageError."""
    with published_file(file) as stream:
        stream.write(json.dumps(facts, indent=1).encode())


def read_facts(file: Path) -> dict[str, Any] | None:
    """What results have in common by a file of `write_facts`; None where there is none, or no such file."""
    try:
        with open(file, "rb") as stream:
            found = json.loads(stream.read(LARGEST_FACTS))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def check_facts(file: Path, facts: dict[str, Any], path: Path) -> None:
    """Raise ConfigError where the results at ``path``, of which ``file`` says it, came about in another way."""
    found = read_facts(file)
    if found is None:
        raise ConfigError(f"{path} exists, and no {file.name} beside it says how its results came about; {ANEW}")
    different = next((name for name in {**facts, **found} if facts.get(name) != found.get(name)), None)
    if different is not None:
        raise ConfigError(
            f"{path} has results with {different}={shortened(found.get(different))}, and this command has "
            f"{shortened(facts.get(different))}; give the same to go on with them, {ANEW}"
        )


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _mismatch(path: Path, source: str, index: int, record: Record | None, result: dict[str, Any] | None) -> str:
    if result is None:
        return f"line {index + 1} of {path} is no result; {ANEW}"
    if record is None:
        return f"{path} has more results than {source} has records, {index}; give the same input to go on, {ANEW}"
    return (
        f"record {index} of {source} is not the one that {path} has a result of; give the same input to go on, {ANEW}"
    )


def _synchronize(stream: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # a pipe, say
        os.fsync(stream.fileno())
