"""Files and folders that others see whole or not at all, whatever ends the process that writes them.

Knows files; knows nothing about what is in them.
"""

from __future__ import annotations

from .locks import FileLock
from .partial_names import PARTIAL, remove_folder, remove_leftovers, target_lock
from .publishing import partial_folder, publish_folder, published_file, storage_errors, synchronize

__all__ = [
    "PARTIAL",
    "FileLock",
    "partial_folder",
    "publish_folder",
    "published_file",
    "remove_folder",
    "remove_leftovers",
    "storage_errors",
    "synchronize",
    "target_lock",
]
