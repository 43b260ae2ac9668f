"""Reads the small files of a checkpoint: regular files of bounded sizes; what the system says becomes one sentence."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from neort.paths import read_regular
from neort.wording import shortened

from ..errors import CheckpointError

__all__ = ["LARGE_FILE", "has_file", "read_bytes", "read_object", "refuse_pointer", "said", "unreadable"]

SMALL_FILE = 16 << 20  # bytes; a config.json has thousands
LARGE_FILE = 256 << 20  # tokenizers and indices; the largest vocabularies take a tenth of it
REMEDY = "fetch the checkpoint again"
POINTER = b"version https://git-lfs.github.com/spec/"
LONGEST = 300  # characters of what a library says


def has_file(file: Path) -> bool:
    """Say whether there is a file.

    Raises CheckpointError where it is no regular one, which might never end, or where the system does not tell.
    """
    try:
        facts = file.stat()
    except FileNotFoundError:
        if file.is_symlink():
            raise CheckpointError(
                f"{file} is a link to {shortened(os.readlink(file))}, where no file is; copy the file itself (cp -L), "
                f"or {REMEDY}"
            ) from None
        return False
    except (NotADirectoryError, ValueError):  # ValueError: NUL in the name
        return False
    except OSError as error:
        raise unreadable(file, error) from error
    if not stat.S_ISREG(facts.st_mode):
        raise CheckpointError(f"{file} is no regular file; put the checkpoint's own file there, or {REMEDY}")
    return True


def refuse_pointer(file: Path) -> None:
    """Raise CheckpointError for the few lines that git leaves in a large file's place, and where it is not readable."""
    try:
        with file.open("rb") as stream:
            begin = stream.read(len(POINTER))
    except OSError as error:
        raise unreadable(file, error) from error
    if begin == POINTER:
        raise _is_pointer(file)


def _is_pointer(file: Path) -> CheckpointError:
    return CheckpointError(
        f"{file} is a pointer of git-lfs, not the file itself; run git lfs install and git lfs pull in {file.parent}, "
        "or download the file"
    )


def read_bytes(file: Path, limit: int = SMALL_FILE) -> bytes:
    """Read a regular file.

    Raises CheckpointError for none, for more than ``limit`` bytes, and where it cannot be read.
    """
    if not has_file(file):
        raise CheckpointError(f"{file} is not there; {REMEDY}")
    try:
        contents = read_regular(file, limit)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise CheckpointError(
                f"{file} has more than {limit:,} bytes, which is the limit for such a file; {REMEDY}, or remove what "
                "does not belong in it"
            ) from None
        raise unreadable(file, error) from error
    if contents.startswith(POINTER):
        raise _is_pointer(file)
    return contents


def read_object(file: Path, limit: int = SMALL_FILE) -> dict[str, Any]:
    """Read the object in a JSON file. Raises CheckpointError when there is none."""
    contents = read_bytes(file, limit)
    try:
        value = json.loads(contents.decode("utf-8"), parse_constant=_refuse)
        if b"\\ud" in contents.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # halves of characters are no text
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON ({said(error)}); correct it, or {REMEDY}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} holds {type(value).__name__}, not an object; {REMEDY}")
    return value


def said(error: BaseException) -> str:
    """Return what a library says, on one line: short, and without what a terminal would obey."""
    text = " ".join(str(error)[: 10 * LONGEST].split())[:LONGEST] or type(error).__name__
    return "".join(character if character.isprintable() else "?" for character in text)


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """The sentence for what the system does not let this user read."""
    return CheckpointError(f"{path} cannot be read ({error.strerror or error}); let this user read it, or {REMEDY}")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
