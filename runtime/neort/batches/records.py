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

__all__ = ["INPUT_FORMATS", "InputFormat", "Record", "format_of_file", "read_records"]

InputFormat = Literal["jsonl", "lines", "text"]
INPUT_FORMATS: tuple[InputFormat, ...] = get_args(InputFormat)
JSON_LINES = (".jsonl", ".ndjson")
LONGEST_RECORD = 16 << 20  # bytes: more than any context holds
DIGEST_BYTES = 8
ENDS = b"\r\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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


def format_of_file(name: str) -> InputFormat:
    """The format that a file's name stands for: JSON objects in .jsonl and .ndjson, else one text."""
    return "jsonl" if Path(name).suffix.lower() in JSON_LINES else "text"


def read_records(stream: BinaryIO, kind: InputFormat, prompt_key: str) -> Iterator[Record]:
    """The records of a file: of JSON objects ("jsonl") or prompts ("lines") one for each line that is not blank.

    "text" is one record, the whole file. A prompt is the member ``prompt_key`` of its object, text or a list of token
    ids; of a line it is the line without its end. Raises OSError where the stream cannot be read.
    """
    index = end = 0
    for raw, digest, size in _whole(stream) if kind == "text" else _lines(stream):
        end += size
        content = raw.removeprefix(BYTE_ORDER_MARK) if raw is not None and index == 0 else raw
        if kind != "text" and content is not None and not content.strip():
            continue
        yield _record(index, digest, end, content, kind, prompt_key)
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
    if not isinstance(value.get(prompt_key), (str, list)):
        what = f"is {shortened(value[prompt_key])}" if prompt_key in value else "is missing"
        return Record(
            index, digest, end, kept=value, error=f"its {shortened(prompt_key)} {what}; it must be text or token ids"
        )
    return Record(index, digest, end, value[prompt_key], value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name}")
