"""Reads a bundle's files: what the system says about them becomes one sentence."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..errors import BundleError, NeortError, SystemCallError

__all__ = ["MissingBundleError", "read_json", "sha256_of", "stat_of", "unreadable"]

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


def unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"{path} cannot be read ({error.strerror}); let this user read it, or copy or export the bundle again"
    )


def sha256_of(file: Path) -> str:
    """Hex digest of a file's contents. Raises OSError where they cannot be read."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def read_json(file: Path, error: type[NeortError], remedy: str) -> dict[str, Any]:
    """The object in a JSON file. Raises ``error``, ending in ``remedy``, when there is none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise error(f"{file} cannot be read as JSON ({cause}); {remedy}") from None
    if not isinstance(value, dict):
        raise error(f"{file} holds {type(value).__name__}, not an object; {remedy}")
    return value
