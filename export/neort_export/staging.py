"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from neort.bundle import MANIFEST
from neort.errors import StorageError
from neort.files import partial_folder, publish_folder, remove_leftovers, storage_errors

from .errors import ExportError

__all__ = ["staged_folder"]


@contextlib.contextmanager
def staged_folder(
    target: Path, *, force: bool, marker: str = MANIFEST, remedy: str = "choose another place"
) -> Iterator[Path]:
    """Yield an empty folder beside ``target``; rename it to ``target`` when the block ends without an error.

    An existing target is an error unless ``force`` is set, and then it must be empty or hold a file ``marker``, which
    tells that it is of the kind that is written; it is replaced in the last moment. Where it is a link to such a
    folder, that folder is replaced, and the link stays. What is left of an earlier, killed run is removed first.
    ``remedy`` is what to do where the target's parent cannot be written.

    Raises ExportError when the target is in the way, StorageError when its parent cannot be written.
    """
    named = target.expanduser().absolute()
    target = Path(os.path.realpath(named)) if named.is_symlink() else named
    remove_leftovers(target)

    def check() -> bool:
        _check_target(named, force, marker)
        return True

    check()
    with contextlib.ExitStack() as stack:
        try:
            partial = stack.enter_context(partial_folder(target))
        except OSError as error:
            raise StorageError(
                f"cannot create a folder in {target.parent} ({error.strerror}); {remedy}", error
            ) from error
        yield partial
        check()  # again: something may have appeared meanwhile
        with storage_errors("the finished folder", target, f"make room, or {remedy}"):
            publish_folder(partial, target, replace=check)


def _check_target(target: Path, force: bool, marker: str) -> None:
    if not os.path.lexists(target):
        return
    if not force:
        raise ExportError(f"{target} exists already; give another name, or --force to replace it")
    replaceable = target.is_dir() and ((target / marker).is_file() or not any(target.iterdir()))
    if not replaceable:
        raise ExportError(f"{target} has no {marker}, so --force does not replace it; give another name, or remove it")
    if target.is_mount():
        raise ExportError(f"{target} is a mount point, which nothing replaces; name a folder in it")
