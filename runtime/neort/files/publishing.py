"""A file or a folder that others see whole or not at all, whatever ends the process that writes it.

It is written under a partial name beside its target, brought to the disk, and renamed; then the folder that holds it is
brought to the disk, too. So after a crash there is the old one or the new one. Where a system cannot synchronize
folders, as Windows, or a file system knows no synchronization, a rename lasts when the system gets to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import NeortError, StorageError
from .exchange import exchange
from .locks import ON_WINDOWS
from .partial_names import aside, partial_name, remove_leftovers, target_lock

__all__ = ["partial_folder", "publish_folder", "published_file", "storage_errors", "synchronize"]

UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


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
def published_file(target: Path, *, mode: int = 0o666, tidy: bool = True) -> Iterator[BinaryIO]:
    """Yield a file to write to; it takes the place of ``target`` when the block ends without an error.

    Where ``target`` is a link, what it points to is replaced. An existing file keeps its permissions; ``mode`` are
    those of a new one, cut by the process's umask. What killed processes left beside ``target`` is removed first, for
    which its folder is listed; whoever writes many files to one folder is not ``tidy``, and does so once.

    Raises StorageError where there is anything but a regular file, OSError where the system cannot write it; what is at
    ``target`` is as it was then.
    """
    place = _end_of_links(target)
    _refuse_special(place, target)
    if tidy:
        remove_leftovers(place)
    with partial_name(place) as partial:
        with open(partial, "xb", opener=_opener(place, mode)) as stream:
            yield stream
            stream.flush()
            synchronize(stream.fileno())
        _refuse_special(place, target)  # again: it may have appeared meanwhile
        partial.replace(place)
        _synchronize_folder(place.parent)


@contextlib.contextmanager
def partial_folder(target: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """Yield a new folder beside ``target`` for `publish_folder`; made with its parents.

    ``mode`` are the permissions of the folder, cut by the process's umask.

    What is left of it when the block ends is removed. Raises OSError where it cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with partial_name(target) as partial:
        partial.mkdir(mode)
        yield partial


def publish_folder(partial: Path, target: Path, *, replace: Callable[[], bool] = lambda: True) -> None:
    """Bring a folder of `partial_folder` to the disk and put it in the target's place.

    Where there is a target by then, ``replace`` tells whether it is replaced, while no other process replaces it.
    Where the system cannot exchange two folders it is missing for a moment, so not while others use it; it returns
    when the new one cannot be renamed.

    Raises FileExistsError where ``replace`` says no, NotADirectoryError where the target is no folder, OSError where
    the system cannot write or rename.
    """
    for path in sorted(partial.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_symlink():
            continue
        if path.is_dir():
            _synchronize_folder(path)
        else:
            _synchronize_file(path)
    _synchronize_folder(partial)
    with target_lock(target):
        _put_in_place(partial, target, replace)
    _synchronize_folder(target.parent)


def _put_in_place(partial: Path, target: Path, replace: Callable[[], bool]) -> None:
    try:
        partial.rename(target)
        return
    except OSError as error:
        if not os.path.lexists(target):
            raise
        if not replace():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target)) from error
    if target.is_symlink() or not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(target))
    if not exchange(partial, target):
        _swap(partial, target)


def _swap(partial: Path, target: Path) -> None:
    """Two renames; what is at ``partial`` afterwards, or put aside, goes when its block ends."""
    old = aside(partial)
    try:
        with contextlib.suppress(FileNotFoundError):  # another process moved it
            target.rename(old)
        partial.rename(target)
    finally:
        if os.path.lexists(old) and not os.path.lexists(target):
            old.rename(target)


def _refuse_special(place: Path, target: Path) -> None:
    """Raises StorageError for what is there and no regular file."""
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in KINDS if is_kind(mode)), "no regular file")
        raise StorageError(f"a file cannot be written to {target}, which is {kind}; give a file's name")


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


# Synchronization


def _synchronize_file(file: Path) -> None:
    """Bring a closed file to the disk. Raises OSError where what was written does not fit there."""
    handle = os.open(file, os.O_RDWR if ON_WINDOWS else os.O_RDONLY)
    try:
        synchronize(handle)
    finally:
        os.close(handle)


def synchronize(handle: int) -> None:
    """Bring an open file to the disk. Raises OSError where what was written does not fit there."""
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
