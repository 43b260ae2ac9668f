"""Weights that the workers of a command have in common, packed in a folder that is there for as long as it runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import StorageError
from ..files import partial_folder, remove_leftovers
from ..loading import load
from ..model import Model

__all__ = ["load_together", "temporary_folder"]

OWNER_ONLY = 0o700  # what is mapped is trusted


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path | None]:
    """Yield a new folder of this user's below the system's for temporary files; None where there can be none: warns.

    It is removed at the end; what killed commands left of theirs is removed at the beginning.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    with contextlib.ExitStack() as stack:
        folder: Path | None = None
        try:
            target = Path(tempfile.gettempdir()) / f"neort-packed-{user}"
            remove_leftovers(target)
            folder = stack.enter_context(partial_folder(target, mode=OWNER_ONLY))
        except OSError as error:
            _warn(f"there is no folder for temporary files ({error.strerror or error})")
        yield folder


def load_together(bundle: Path, loading: Mapping[str, Any], folder: Path | None) -> Model:
    """Load a model with the arguments of `neort.load`, and its packed weights in a folder of `temporary_folder`.

    Where the folder has no room for them, a worker has weights of its own; warns. Raises what `neort.load` does.
    """
    if folder is not None:
        try:
            return load(bundle, **{**loading, "packed_weights": folder})
        except StorageError as error:
            _warn(f"{error}")
    return load(bundle, **loading)


def _warn(reason: str) -> None:
    warnings.warn(
        f"each worker has weights of its own, since {reason}; give --packed-weights FOLDER, and all share one copy",
        stacklevel=3,
    )
