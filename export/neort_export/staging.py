"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
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
    tells that it is of the kind that is written; it is replaced in the last moment. What is left of an earlier, killed
    run is removed first. ``remedy`` is what to do where the target's parent cannot be written.

    Raises ExportError when the target is in the way, StorageError when its parent cannot be written.
    """
    target = target.expanduser().absolute()
    remove_leftovers(target)
    _check_target(target, force, marker)
    with contextlib.ExitStack() as stack:
        try:
            partial = stack.enter_context(partial_folder(target))
        except OSError as error:
            raise StorageError(
                f"cannot create a folder in {target.parent} ({error.strerror}); {remedy}", error
            ) from error
        yield partial
        _check_target(target, force, marker)  # again: something may have appeared meanwhile
        with storage_errors("the finished folder", target, f"make room, or {remedy}"):
            publish_folder(partial, target)


def _check_target(target: Path, force: bool, marker: str) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not force:
        raise ExportError(f"{target} exists already; give another name, or --force to replace it")
    replaceable = target.is_dir() and ((target / marker).is_file() or not any(target.iterdir()))
    if not replaceable:
        raise ExportError(f"{target} has no {marker}, so --force does not replace it; give another name, or remove it")
