"""A file or a folder that others see whole or not at all, whatever ends the process that writes it.

It is written under a partial name beside its target, brought to the disk, and renamed; then the folder that holds it is
brought to the disk, too. So after a crash there is the old one or the new one. Where a system cannot synchronize
folders, as Windows, or a file system knows no synchronization, a rename lasts when the system gets to it.

Knows files; knows nothing about what is in them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import StorageError

__all__ = ["PARTIAL", "partial_folder", "publish_folder", "published_file", "remove_folder", "storage_errors"]

PARTIAL = "partial"
UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
ON_WINDOWS = os.name == "nt"


@contextlib.contextmanager
def storage_errors(what: str, place: Path, remedy: str) -> Iterator[None]:
    """Turn what the system says about writing ``what`` to ``place`` into one sentence that ends in ``remedy``.

    Raises StorageError.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{what} cannot be written to {place} ({error}); {remedy}") from error


@contextlib.contextmanager
def published_file(target: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to; it takes the place of ``target`` when the block ends without an error.

    Raises OSError where the system cannot write it; ``target`` is as it was then.
    """
    partial = _partial_name(target)
    try:
        with partial.open("xb") as stream:
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
    """Yield a new folder beside ``target``, `.NAME.partial-RANDOM-PID`, for `publish_folder`; made with its parents.

    ``mode`` are the permissions of the folder, cut by the process's umask.

    What is left of it when the block ends is removed. Raises OSError where it cannot be made.
    """
    partial = _partial_name(target)
    try:
        partial.mkdir(mode, parents=True)
        yield partial
    finally:
        remove_folder(partial)


def publish_folder(partial: Path, target: Path) -> None:
    """Bring a folder of `partial_folder` to the disk and put it in the target's place.

    An old target is gone only after the new one stands; it stays, or returns, when the new one cannot be renamed.
    Raises OSError then.
    """
    for path in sorted(partial.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_symlink():
            continue
        if path.is_dir():
            _synchronize_folder(path)
        else:
            _synchronize_file(path)
    _synchronize_folder(partial)
    _swap(partial, target)
    _synchronize_folder(target.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder, or a link to one; Ctrl-C does not leave half of it."""
    try:
        _remove(folder)
    except KeyboardInterrupt:
        _remove(folder)
        raise


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _swap(partial: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.{PARTIAL}-old-{os.getpid()}")
    try:
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        if old.exists():
            if target.exists():
                remove_folder(old)
            else:
                old.rename(target)


def _partial_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{PARTIAL}-{secrets.token_hex(4)}-{os.getpid()}")


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
