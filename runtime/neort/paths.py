"""Paths that a caller gives, and files that are read: regular ones only, and none longer than it may be.

Opening a FIFO waits for a writer, and a device such as /dev/zero has no end: neither is what anybody means by a
bundle's file, though an archive or a link can put one there. Knows nothing about what is in a file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from .errors import ArgumentTypeError, NeortError
from .wording import shortened

__all__ = ["given_path", "open_regular", "read_regular"]

NEVER_WAITS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def given_path(value: object, what: str, error: Callable[[str], NeortError]) -> Path:
    """The path that a caller gave as ``what``, such as "the bundle", with ``~`` written out.

    Raises ArgumentTypeError for what is no path, ``error`` for one that is empty, that holds NUL, or that names the
    home folder of nobody.
    """
    if not isinstance(value, (str, os.PathLike)) or not isinstance(path := os.fspath(value), str):
        raise ArgumentTypeError(f"{what} is named by a path, a str or a pathlib.Path, not by {type(value).__name__}")
    if not path:
        raise error(f"the path of {what} is empty; give its name")
    if "\0" in path:
        raise error(f"the path of {what}, {shortened(path)}, holds a NUL character, which no path can; correct it")
    try:
        return Path(path).expanduser()
    except RuntimeError as cause:
        raise error(
            f"the path of {what}, {shortened(path)}, names the home folder of nobody ({cause}); write it out"
        ) from None


def open_regular(path: Path) -> FileIO:
    """Open a regular file for reading, without waiting for anything else that may stand there.

    Raises OSError where the system cannot, and where it is no regular file.
    """
    _check_regular(path.stat())
    stream = FileIO(path, "rb", opener=lambda name, flags: os.open(name, flags | NEVER_WAITS))
    try:
        _check_regular(os.fstat(stream.fileno()))
    except BaseException:
        stream.close()
        raise
    return stream


def read_regular(path: Path, limit: int) -> bytes:
    """The contents of a regular file of at most ``limit`` bytes.

    Raises OSError where the system cannot read it, and where it is no regular file or a longer one.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, and at most {limit:,} are read", os.fspath(path))
        parts, left = [], limit + 1  # a file of /proc has no size
        while left and (part := stream.read(min(left, size + 1))):
            parts.append(part)
            left -= len(part)
    if not left:
        raise OSError(errno.EFBIG, f"more than {limit:,} bytes come out of it", os.fspath(path))
    return b"".join(parts)


def _check_regular(facts: os.stat_result) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
