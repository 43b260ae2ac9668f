"""Locks that tell the living from the dead: the system frees a process's locks however the process ends.

On POSIX it is `flock`: threads hold it against each other, and a forked child shares its parent's, which is free when
both have closed the file. (`lockf` would be lost as soon as the process closes the file anywhere.) On Windows it is a
lock of the first byte. A file system may know no locks; one that several hosts share must know them across hosts, as
NFS does unless it is mounted with `local_lock`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from io import FileIO
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["ON_WINDOWS", "FileLock"]

ON_WINDOWS = os.name == "nt"
TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
PAUSE = 0.005  # seconds
OWNER_ONLY = 0o600  # who can open the file can take the lock


class FileLock:
    """A lock on a file that exists for its sake; free until `take`."""

    def __init__(self, file: Path, *, mode: int = OWNER_ONLY) -> None:
        """``mode`` are the permissions of a file that is made, cut by the process's umask."""
        self.file = file
        self._mode = mode
        self._stream: FileIO | None = None

    def take(self, *, create: bool = True, seconds: float = 0.0) -> bool | None:
        """Whether the lock is held now: False where another has it for ``seconds``; None where there are no locks.

        Without ``create`` a file that is not there is no lock to be had: False. Raises OSError where the file can be
        neither opened nor made.
        """
        until = time.monotonic() + seconds
        while True:
            taken = self._try(create)
            if taken is not False or time.monotonic() >= until:
                return taken
            time.sleep(PAUSE)

    def close(self) -> None:
        """Give the lock up; its file stays."""
        if self._stream is not None:
            self._stream.close()

    def remove(self) -> None:
        """Give the lock up and remove its file. What another process holds stays."""
        stream = self._stream
        if stream is None or stream.closed:
            return
        ours = ON_WINDOWS or (_lock(stream.fileno()) is True and self._has_name(stream))
        if ours and not ON_WINDOWS:  # while the lock is held: afterwards the name may be another's
            self._unlink()
        stream.close()
        if ours and ON_WINDOWS:  # which refuses while anyone has the file open, and that includes us
            self._unlink()

    def _try(self, create: bool) -> bool | None:
        try:
            self._stream = stream = FileIO(self.file, "r+", opener=self._create if create else _open)
        except FileNotFoundError:
            if create:  # its folder is missing
                raise
            return False
        except PermissionError:
            if not ON_WINDOWS:  # there it is being removed
                raise
            return False
        taken = _lock(stream.fileno())
        if taken and self._has_name(stream):  # else another has removed it between the two steps
            return True
        stream.close()
        if taken is None and create:
            self._unlink()
        return None if taken is None else False

    def _create(self, name: str, _: int) -> int:
        return os.open(name, _FLAGS | os.O_CREAT, self._mode)

    def _has_name(self, stream: FileIO) -> bool:
        try:
            return os.path.samestat(os.fstat(stream.fileno()), os.lstat(self.file))
        except OSError:
            return False

    def _unlink(self) -> None:
        with contextlib.suppress(OSError):
            self.file.unlink()


def _open(name: str, _: int) -> int:
    return os.open(name, _FLAGS)


_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _lock(handle: int) -> bool | None:
    """Lock an open file: True, or False where it is taken already, or None where the file system has no locks."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in TAKEN else None
    return True
