"""The prompts of a file as records, one at a time, however long the file is.

A record that is no prompt is a record with an error: what comes after it is read all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, get_args

from ..wording import shortened

__all__ = ["INPUT_FORMATS", "InputFormat", "RawRecord", "Record", "format_of_file", "raw_records", "read_records"]

InputFormat = Literal["jsonl", "lines", "text"]
INPUT_FORMATS: tuple[InputFormat, ...] = get_args(InputFormat)
JSON_LINES = (".jsonl", ".ndjson")
LONGEST_RECORD = 16 << 20  # bytes: more than any context holds
DIGEST_BYTES = 8
ENDS = b"\r\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class RawRecord:
    """One record as the file has it, which may be read elsewhere: ``raw`` is None where it is too long.

    ``digest`` is a hash of it, ``end`` how many bytes of the file end with it.
    """

    index: int
    digest: str
    end: int
    raw: bytes | None

    def parsed(self, kind: InputFormat, prompt_key: str) -> Record:
        """What it says, or what is wrong with it."""
        return _record(self.index, self.digest, self.end, self.raw, kind, prompt_key)


@dataclass(frozen=True)
class Record:
    """One prompt of a file.

    ``digest`` is a hash of what the file has of it, ``end`` how many bytes of the file end with it. ``kept`` goes into
    its result: all members of a JSON object. A record with an ``error`` has no ``prompt``.
    """

    index: int
    digest: str
    end: int
    prompt: Any = None
    kept: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @classmethod
    def of_members(cls, index: int, digest: str, end: int, members: dict[str, Any], prompt_key: str) -> Record:
        """The record of an object with ``members``, of which ``prompt_key`` is the prompt: text or token ids."""
        prompt = members.get(prompt_key)
        if isinstance(prompt, (str, list)):
            return cls(index, digest, end, prompt, members)
        what = f"is {shortened(prompt)}" if prompt_key in members else "is missing"
        error = f"its {shortened(prompt_key)} {what}; it must be text or token ids"
        return cls(index, digest, end, kept=members, error=error)


def format_of_file(name: str) -> InputFormat:
    """The format that a file's name stands for: JSON objects in .jsonl and .ndjson, else one text."""
    return "jsonl" if Path(name).suffix.lower() in JSON_LINES else "text"


def read_records(stream: BinaryIO, kind: InputFormat, prompt_key: str) -> Iterator[Record]:
    """The records of a file: of JSON objects ("jsonl") or prompts ("lines") one for each line that is not blank.

    "text" is one record, the whole file. A prompt is the member ``prompt_key`` of its object, text or a list of token
    ids; of a line it is the line without its end. Raises OSError where the stream cannot be read.
    """
    for record in raw_records(stream, kind):
        yield record.parsed(kind, prompt_key)


def raw_records(stream: BinaryIO, kind: InputFormat, first: int = 0) -> Iterator[RawRecord]:
    """The same records, not parsed yet; ``first`` is the index of the first one. Raises what `read_records` does."""
    index, end = first, 0
    for raw, digest, size in _whole(stream) if kind == "text" else _lines(stream):
        end += size
        content = raw.removeprefix(BYTE_ORDER_MARK) if raw is not None and index == first else raw
        if kind != "text" and content is not None and not content.strip():
            continue
        yield RawRecord(index, digest, end, content)
        index += 1


def _lines(stream: BinaryIO) -> Iterator[tuple[bytes | None, str, int]]:
    """Each line with its digest, which its end is no part of, and its size; None for a line that is too long."""
    while first := stream.readline(LONGEST_RECORD + 1):
        hashed, size, part = _hash(first.rstrip(ENDS)), len(first), first
        while not part.endswith(b"\n") and (part := stream.readline(LONGEST_RECORD)):
            hashed.update(part.rstrip(ENDS))
            size += len(part)
        yield (None if size > LONGEST_RECORD else first), hashed.hexdigest(), size


def _whole(stream: BinaryIO) -> Iterator[tuple[bytes | None, str, int]]:
    raw = stream.read(LONGEST_RECORD + 1)
    yield (None if len(raw) > LONGEST_RECORD else raw), _hash(raw).hexdigest(), len(raw)


def _hash(raw: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(raw, digest_size=DIGEST_BYTES)


def _record(index: int, digest: str, end: int, raw: bytes | None, kind: InputFormat, prompt_key: str) -> Record:
    if raw is None:
        return Record(index, digest, end, error=f"it has more than {LONGEST_RECORD:,} bytes, more than a prompt may")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return Record(index, digest, end, error=f"it is no UTF-8 (it holds a byte 0x{raw[error.start]:02x})")
    if kind != "jsonl":
        prompt = text if kind == "text" else text.removesuffix("\n").removesuffix("\r")
        return Record(index, digest, end, prompt, {prompt_key: prompt})
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return Record(index, digest, end, error=f"it is no JSON ({error})")
    if not isinstance(value, dict):
        return Record(index, digest, end, error=f"it is no JSON object but {shortened(value)}")
    return Record.of_members(index, digest, end, value, prompt_key)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name}")
