"""Reads a bundle's files: what the system says about them becomes one sentence."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from io import FileIO
from pathlib import Path
from typing import Any

from ..errors import BundleError, NeortError, OutOfMemoryError, SystemCallError
from ..paths import open_regular, read_regular

__all__ = [
    "LARGEST_GRAPH",
    "LARGEST_JSON",
    "LARGEST_MANIFEST",
    "MissingBundleError",
    "parsed_json",
    "read_json",
    "sha256_of",
    "sha256_of_stream",
    "stat_of",
    "unreadable",
]

LARGEST_MANIFEST = 4 << 20  # bytes; those of real models have 3,000
LARGEST_JSON = 64 << 20  # GPT-Neo's tokenizer.json has 2 million
LARGEST_GRAPH = 64 << 20  # 2.7B has 300,000: what is large lies in weights.data

_HASH_BLOCK = 1 << 20


class MissingBundleError(SystemCallError, BundleError, FileNotFoundError):
    """There is nothing where a bundle should be."""


def stat_of(path: Path) -> os.stat_result | None:
    """Facts about a path; None where there is nothing. Raises BundleError where the system does not tell."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: NUL in the name
        return None
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> NeortError:
    """The error for a file that the system does not read: an OutOfMemoryError where that is why, else a BundleError."""
    if error.errno == errno.ENOMEM:
        return OutOfMemoryError(f"there is no memory to read {path} ({error.strerror}); free some, or allow more")
    reason = error.strerror or str(error)
    return BundleError(f"{path} cannot be read ({reason}); let this user read it, or copy or export the bundle again")


def sha256_of(file: Path) -> str:
    """Hex digest of a regular file's contents. Raises OSError where they cannot be read."""
    with open_regular(file) as stream:
        return sha256_of_stream(stream)


def sha256_of_stream(stream: FileIO, most: int | None = None) -> str:
    """Hex digest of what is left of a file, or of the first ``most`` bytes of it."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_HASH_BLOCK))
    left = most
    while left is None or left > 0:
        count = stream.readinto(buffer if left is None else buffer[:left])
        if not count:
            break
        digest.update(buffer[:count])
        left = None if left is None else left - count
    return digest.hexdigest()


def read_json(file: Path, error: type[NeortError], remedy: str, limit: int = LARGEST_JSON) -> dict[str, Any]:
    """The object in a JSON file of at most ``limit`` bytes.

    Raises ``error``, ending in ``remedy``, when there is none.
    """
    try:
        contents = read_regular(file, limit)
    except (OSError, ValueError) as cause:
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            raise unreadable(file, cause) from None
        if isinstance(cause, PermissionError):
            remedy = f"let this user read it, or {remedy}"
        raise error(f"{file} cannot be read as JSON ({_reason(cause)}); {remedy}") from None
    return parsed_json(contents, str(file), error, remedy)


def parsed_json(contents: bytes, name: str, error: type[NeortError], remedy: str) -> dict[str, Any]:
    """The object in the contents of a JSON file of that name.

    Raises ``error``, ending in ``remedy``, when there is none.
    """
    try:
        value = json.loads(contents.decode("utf-8"))
    except RecursionError:
        raise error(f"{name} cannot be read as JSON (its lists and objects are nested too deep); {remedy}") from None
    except ValueError as cause:
        raise error(f"{name} cannot be read as JSON ({cause}); {remedy}") from None
    if not isinstance(value, dict):
        raise error(f"{name} holds {type(value).__name__}, not an object; {remedy}")
    return value


def _reason(cause: OSError | ValueError) -> str:
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
