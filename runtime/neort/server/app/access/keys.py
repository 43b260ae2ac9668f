"""Keys that a request must name: read from a file, kept as hashes, compared without telling how much was right."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ....errors import ConfigError
from ....paths import read_regular

__all__ = ["Keys"]

LARGEST_FILE = 1 << 20
FEWEST_CHARACTERS = 16
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Keys:
    """Keys, as hashes."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Raises ConfigError where there is none, or one is too short or holds what no header can."""
        self._hashes = [_hash(_checked(key, i)) for i, key in enumerate(keys, start=1)]
        if not self._hashes:
            raise ConfigError("there is no key; give at least one, or leave keys out")

    @classmethod
    def from_file(cls, file: Path) -> Keys:
        """Read a key from each line but empty ones and those that begin with #.

        Raises ConfigError for a file that cannot be read, that others than its owner may read, or without a key.
        """
        try:
            if os.name == "posix" and (mode := stat.S_IMODE(file.stat().st_mode)) & OTHERS:
                raise ConfigError(
                    f"{file} may be used by others than its owner (mode {mode:03o}), and it holds keys; run: chmod "
                    f"600 {file}"
                )
            text = read_regular(file, LARGEST_FILE).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ConfigError(f"{file} is no UTF-8 text; write a key on each line") from None
        except OSError as error:
            raise ConfigError(
                f"{file} cannot be read ({error.strerror or error}); give a file with a key on each line"
            ) from None
        lines = [line.strip() for line in text.splitlines()]
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise ConfigError(f"{file} holds no key; write one on each line, such as `openssl rand -hex 24` makes")
        return cls(keys)

    def admit(self, key: str) -> bool:
        """Whether it is one of the keys; takes as long whatever part of which one is right."""
        given = _hash(key)
        found = [hmac.compare_digest(given, each) for each in self._hashes]  # all, also after the right one
        return True in found


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _checked(key: str, number: int) -> str:
    """A key that a header can hold and that nobody guesses; no message repeats it."""
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(f"key {number} has blanks or letters beyond ASCII, which no header may hold; make another")
    if len(key) < FEWEST_CHARACTERS:
        raise ConfigError(
            f"key {number} has {len(key)} characters; it must have at least {FEWEST_CHARACTERS}, such as `openssl "
            "rand -hex 24` makes"
        )
    return key
