"""Documents that a command reads from files: a whole file, its lines or paragraphs, or a key of JSON lines."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..batches import format_of_file
from ..errors import PromptError
from ..paths import read_regular
from ..wording import shortened

__all__ = ["SPLITS", "read_documents"]

LARGEST_FILE = 1 << 30
SPLITS = {"nothing": None, "lines": r"\n", "blank-lines": r"\n[^\S\n]*(?:\n[^\S\n]*)+"}


def read_documents(file: Path, split_on: str, field: str) -> list[str]:
    """The documents of a file, without those of white space alone.

    ``split_on`` is a name of `SPLITS`; each line of a .jsonl or .ndjson file is a document instead, its ``field``.

    Raises PromptError for a file that cannot be read, is not UTF-8 or holds no document, or a line that is none.
    """
    try:
        text = read_regular(file, LARGEST_FILE).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(
            f"{file} is no UTF-8 text (byte {error.start} is 0x{error.object[error.start]:02x}); convert it, with "
            "iconv say"
        ) from None
    except OSError as error:
        raise PromptError(f"{file} cannot be read ({error.strerror or error}); name a text file") from None
    if format_of_file(str(file)) == "jsonl":
        lines = text.split("\n")
        documents = [_field(file, i, line, field) for i, line in enumerate(lines, start=1) if line.strip()]
    else:
        pattern = SPLITS[split_on]
        documents = [text] if pattern is None else re.split(pattern, text)
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise PromptError(f"{file} holds no text; leave it out")
    return documents


def _field(file: Path, number: int, line: str, field: str) -> str:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise PromptError(f"{file}: line {number} is no JSON ({error}); correct it, or name the file .txt") from None
    value = record.get(field) if isinstance(record, dict) else None
    if not isinstance(value, str):
        raise PromptError(
            f"{file}: line {number} has no text under {shortened(field)}, it is {shortened(record)}; give the key by "
            "--field"
        )
    return value
