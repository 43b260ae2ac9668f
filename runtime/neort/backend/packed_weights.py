"""A graph with its weights as onnxruntime packs them, kept in a folder, so that processes share them.

onnxruntime rearranges weights for its kernels when it loads a graph, into memory of the process's own. Saved once and
memory-mapped afterwards, they lie in the page cache, once for all processes. (It still packs each weight, and
maps the saved one only if it is the same: a folder that comes from another kind of processor is of no use, and does no
harm.) Knows files; onnxruntime is its caller's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..bundle import WEIGHTS, Bundle
from ..errors import StorageError
from ..files import partial_folder, publish_folder, remove_leftovers, storage_errors, target_lock

__all__ = ["packed_graph", "save_packed"]

GRAPH, DATA, SIZES = "decoder.onnx", "weights.data", "sizes.json"
SMALLEST = "1024"  # bytes of a tensor that lies in DATA rather than in GRAPH
OWNER_ONLY = 0o700  # what is mapped is trusted
COPIES = 2.2  # onnxruntime keeps the plain weights beside the packed ones


def packed_graph(bundle: Bundle, file: Path, folder: Path, variant: str, save: Callable[[Path], None]) -> Path:
    """The graph ``file`` of the bundle with packed weights, in a folder of its own below ``folder``; saved if missing.

    ``variant`` says what else the packing depends on, such as onnxruntime's version; ``save`` writes GRAPH and DATA
    into the folder that it is given. Other processes see all of it or nothing, and what they may use stays where it
    is. What killed processes left is removed.

    Raises StorageError when there is too little space or the folder cannot be written.
    """
    digest = hashlib.sha256(f"{bundle.model_hash(file.name)} {variant}".encode()).hexdigest()
    target = folder / f"{bundle.path.resolve().name}-{digest[:16]}"
    remove_leftovers(target)
    if not _is_whole(target) and not _becomes_whole(target):
        with storage_errors("packed weights", folder, "name another folder, or none"):
            _make(bundle, target, save)
    return target / GRAPH


def save_packed(options: Any, folder: Path) -> None:
    """Let a session that is opened with ``options`` write its graph and its packed weights into ``folder``."""
    options.optimized_model_filepath = os.fspath(folder / GRAPH)
    for key, value in (
        ("optimized_model_external_initializers_file_name", DATA),
        ("optimized_model_external_initializers_min_size_in_bytes", SMALLEST),
        ("save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(f"session.{key}", value)


def _make(bundle: Bundle, target: Path, save: Callable[[Path], None]) -> None:
    parent = target.parent
    parent.mkdir(parents=True, exist_ok=True)
    needed, free = int(COPIES * bundle.file(WEIGHTS).stat().st_size), shutil.disk_usage(parent).free
    if free < needed:
        raise StorageError(
            f"packed weights need {needed:,} bytes in {parent}, which has {free:,} free; make room, name another "
            "folder, or none"
        )
    with partial_folder(target, mode=OWNER_ONLY) as partial:
        _save(partial, save)
        sizes = {name: (partial / name).stat().st_size for name in (GRAPH, DATA)}
        (partial / SIZES).write_text(json.dumps(sizes), encoding="utf-8")
        try:
            if not _is_whole(target):
                publish_folder(partial, target, replace=lambda: not _is_whole(target))
        except OSError:
            if not _is_whole(target):  # else another process was faster
                raise


def _save(partial: Path, save: Callable[[Path], None]) -> None:
    """Raises StorageError where the files cannot be written: onnxruntime names neither the cause nor the place."""
    try:
        save(partial)
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's errors share no public base class
        if not any(partial.iterdir()):  # it did not come so far
            raise
        folder = partial.parent
        raise StorageError(
            f"packed weights cannot be written to {folder}, which has {shutil.disk_usage(folder).free:,} bytes free; "
            "make room, name another folder, or none"
        ) from error


def _becomes_whole(target: Path) -> bool:
    """Whether the folder is whole once no process is replacing it any more."""
    if not os.path.lexists(target.parent):
        return False
    with target_lock(target):
        return _is_whole(target)


def _is_whole(target: Path) -> bool:
    """Whether the files have the sizes that they were written with: a mapped file that ends early kills the process."""
    try:
        sizes = json.loads((target / SIZES).read_text(encoding="utf-8"))
        return all((target / name).stat().st_size == sizes[name] for name in (GRAPH, DATA))
    except (OSError, ValueError, KeyError, TypeError):
        return False
