"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path

from neort.bundle import MANIFEST
from neort.errors import StorageError
from neort.files import PARTIAL, partial_folder, publish_folder, remove_folder, storage_errors

from .errors import ExportError

__all__ = ["staged_folder"]


@contextlib.contextmanager
def staged_folder(target: Path, *, force: bool, marker: str = MANIFEST) -> Iterator[Path]:
    """Yield an empty folder beside ``target``; rename it to ``target`` when the block ends without an error.

    An existing target is an error unless ``force`` is set, and then it must be empty or hold a file ``marker``, which
    tells that it is of the kind that is written; it is replaced in the last moment. What is left of an earlier, killed
    run is removed first.

    Raises ExportError when the target is in the way, StorageError when its parent cannot be written.
    """
    target = target.expanduser().absolute()
    _remove_leftovers(target)
    _check_target(target, force, marker)
    with contextlib.ExitStack() as stack:
        try:
            partial = stack.enter_context(partial_folder(target))
        except OSError as error:
            raise StorageError(
                f"cannot create a folder in {target.parent} ({error.strerror}); choose another place"
            ) from error
        yield partial
        _check_target(target, force, marker)  # again: something may have appeared meanwhile
        with storage_errors("the finished folder", target, "make room, or choose another place"):
            publish_folder(partial, target)


def _check_target(target: Path, force: bool, marker: str) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not force:
        raise ExportError(f"{target} exists already; give another name, or --force to replace it")
    replaceable = target.is_dir() and ((target / marker).is_file() or not any(target.iterdir()))
    if not replaceable:
        raise ExportError(f"{target} has no {marker}, so --force does not replace it; give another name, or remove it")


def _remove_leftovers(target: Path) -> None:
    """Stages of runs that were killed; those of live processes stay, and a bundle that was being replaced returns."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.{PARTIAL}-*"):
        pid = leftover.name.rpartition("-")[2]
        if not pid.isdigit() or _is_alive(int(pid)):
            continue
        if f".{PARTIAL}-old-" in leftover.name and not target.exists():
            leftover.rename(target)
        else:
            remove_folder(leftover)


def _is_alive(pid: int) -> bool:
    """Whether another process has this id."""
    if os.name == "nt":  # there os.kill would end the process; keep what may be in use
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()
