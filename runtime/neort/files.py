"""A file or a folder that others see whole or not at all, whatever ends the process that writes it.

It is written under a partial name beside its target, brought to the disk, and renamed; then the folder that holds it is
brought to the disk, too. So after a crash there is the old one or the new one. Where a system cannot synchronize
folders, as Windows, or a file system knows no synchronization, a rename lasts when the system gets to it.

A partial name is `.NAME.partial-RANDOM-HOST-PID`: it tells who writes it, so what a killed process left can be removed.

Knows files; knows nothing about what is in them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import NeortError, StorageError

__all__ = [
    "PARTIAL",
    "partial_folder",
    "publish_folder",
    "published_file",
    "remove_folder",
    "remove_leftovers",
    "storage_errors",
]

PARTIAL = "partial"
LONGEST_STEM = 200  # bytes of a name within a partial name, for which file systems have 255
UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
ON_WINDOWS = os.name == "nt"

_in_use: set[str] = set()  # partial names that this process writes to now


@contextlib.contextmanager
def storage_errors(what: str, place: Path, remedy: str) -> Iterator[None]:
    """Turn what the system says about writing ``what`` to ``place`` into one sentence that ends in ``remedy``.

    Raises StorageError.
    """
    try:
        yield
    except NeortError:
        raise
    except OSError as error:
        raise StorageError(
            f"{what} cannot be written to {place} ({error.strerror or error}); {remedy}", error
        ) from error


@contextlib.contextmanager
def published_file(target: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Yield a file to write to; it takes the place of ``target`` when the block ends without an error.

    Where ``target`` is a link, what it points to is replaced. An existing file keeps its permissions; ``mode`` are
    those of a new one, cut by the process's umask.

    Raises OSError where the system cannot write it, or ``target`` is a folder; ``target`` is as it was then.
    """
    target = _end_of_links(target)
    if target.exists() and not target.is_file():
        number = errno.EISDIR if target.is_dir() else errno.EEXIST
        raise OSError(number, os.strerror(number), os.fspath(target))
    remove_leftovers(target)
    with _name_beside(target) as partial:
        try:
            with open(partial, "xb", opener=_opener(target, mode)) as stream:
                yield stream
                stream.flush()
                _synchronize(stream.fileno())
            partial.replace(target)
            _synchronize_folder(target.parent)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


@contextlib.contextmanager
def partial_folder(target: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """Yield a new folder beside ``target`` for `publish_folder`; made with its parents.

    ``mode`` are the permissions of the folder, cut by the process's umask.

    What is left of it when the block ends is removed. Raises OSError where it cannot be made.
    """
    with _name_beside(target) as partial:
        try:
            partial.mkdir(mode, parents=True)
            yield partial
        finally:
            remove_folder(partial)


def publish_folder(partial: Path, target: Path, *, replace: Callable[[], bool] = lambda: True) -> None:
    """Bring a folder of `partial_folder` to the disk and put it in the target's place.

    Where there is a target by then, ``replace`` tells whether it is replaced: between two renames it is missing for a
    moment, so not while others use it. The old one is gone only after the new one stands; it stays, or returns, when
    the new one cannot be renamed.

    Raises FileExistsError where ``replace`` says no, OSError where the system cannot write or rename.
    """
    for path in sorted(partial.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_symlink():
            continue
        if path.is_dir():
            _synchronize_folder(path)
        else:
            _synchronize_file(path)
    _synchronize_folder(partial)
    try:
        partial.rename(target)
    except OSError as error:
        if not os.path.lexists(target):
            raise
        if not replace():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target)) from error
        _swap(partial, target)
    _synchronize_folder(target.parent)


def remove_leftovers(target: Path) -> None:
    """Remove what killed processes left beside ``target``; an old target that was being replaced returns.

    What live processes write stays, and what those of other hosts and containers wrote, of which nothing is known.
    """
    name = re.compile(rf"{re.escape(_stem(target))}(old-)?[0-9a-f]+-{_host()}-(\d+)")
    for leftover in target.parent.glob(f"{glob.escape(_stem(target))}*"):
        found = name.fullmatch(leftover.name)
        if found is None or _is_written(leftover.name, int(found[2])):
            continue
        with contextlib.suppress(OSError):  # another process was faster, or the folder is not ours
            if found[1] and not os.path.lexists(target):
                leftover.rename(target)
            else:
                remove_folder(leftover)


def remove_folder(folder: Path) -> None:
    """Remove a folder, a link or a file; Ctrl-C does not leave half of it."""
    try:
        _remove(folder)
    except KeyboardInterrupt:
        _remove(folder)
        raise


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _swap(partial: Path, target: Path) -> None:
    with _name_beside(target, "old-") as old:
        try:
            with contextlib.suppress(FileNotFoundError):  # another process moved it
                target.rename(old)
            partial.rename(target)
        finally:
            if os.path.lexists(old):
                if os.path.lexists(target):
                    remove_folder(old)
                else:
                    old.rename(target)


def _opener(target: Path, mode: int) -> Callable[[str, int], int]:
    """What opens a new file with the permissions of ``target``, or with ``mode`` where there is none."""
    kept = stat.S_IMODE(target.stat().st_mode) if target.exists() and not ON_WINDOWS else None

    def opener(name: str, flags: int) -> int:
        handle = os.open(name, flags, mode if kept is None else kept)
        if kept is not None:
            with contextlib.suppress(OSError):  # a file system without permissions
                os.fchmod(handle, kept)
        return handle

    return opener


def _end_of_links(target: Path) -> Path:
    """What a link points to in the end, there or not. Raises OSError for links in a circle."""
    if not target.is_symlink():
        return target
    end = Path(os.path.realpath(target))
    if end.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(target))
    return end


# Partial names


@contextlib.contextmanager
def _name_beside(target: Path, kind: str = "") -> Iterator[Path]:
    """Yield a path that no one else has; no one takes it for a leftover within the block."""
    name = f"{_stem(target)}{kind}{secrets.token_hex(4)}-{_host()}-{os.getpid()}"
    _in_use.add(name)
    try:
        yield target.with_name(name)
    finally:
        _in_use.discard(name)


def _stem(target: Path) -> str:
    """How the partial names of a target begin; a long name is cut, and told from others by its hash."""
    stem = target.name
    if len(os.fsencode(stem)) > LONGEST_STEM:
        digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
        while len(os.fsencode(stem)) > LONGEST_STEM - len(digest) - 1:
            stem = stem[:-1]
        stem = f"{stem}~{digest}"
    return f".{stem}.{PARTIAL}-"


@functools.cache
def _host() -> str:
    """Digits for the processes that a pid is counted among: those of a host, or of a container."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def _is_written(name: str, pid: int) -> bool:
    """Whether the process with this id may still write what has this partial name."""
    if pid == os.getpid():
        return name in _in_use  # else it is of a former process with the same id
    if ON_WINDOWS:  # there os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


# Synchronization


def _synchronize_file(file: Path) -> None:
    """Bring a closed file to the disk. Raises OSError where what was written does not fit there."""
    handle = os.open(file, os.O_RDWR if ON_WINDOWS else os.O_RDONLY)
    try:
        _synchronize(handle)
    finally:
        os.close(handle)


def _synchronize(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def _synchronize_folder(folder: Path) -> None:
    """Make the names in a folder last, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
