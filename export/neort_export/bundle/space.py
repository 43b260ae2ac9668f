"""Disks that cannot hold a bundle."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from neort.errors import StorageError

__all__ = ["check_space", "disk_error"]


def check_space(folder: Path, needed: int) -> None:
    """Raises StorageError before anything large is written to a disk that cannot hold it."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the bundle takes {needed:,} bytes and the disk of {folder.parent} has {free:,} bytes free; nothing was "
            "written. Free some space, or choose another place"
        )


def disk_error(error: OSError, target: Path) -> StorageError:
    """What the system said while a bundle was written to ``target``, as one sentence with the remedy."""
    if error.errno != errno.ENOSPC:
        return StorageError(f"{target} could not be written ({error}); nothing was kept. Choose another place", error)
    free = shutil.disk_usage(target.parent).free
    return StorageError(
        f"the disk of {target.parent} is full ({free:,} bytes free); nothing was kept. "
        "Free some space, or choose another place",
        error,
    )
