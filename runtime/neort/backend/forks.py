"""What becomes of onnxruntime's sessions in a forked child, which has none of its parent's other threads.

A session there would run on one thread, without a word, and wait for the others for ever when it is closed. So it is
never closed, and whoever needs it opens another one.

Knows processes; knows nothing about graphs.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol

__all__ = ["keep_for_ever", "tell_in_child"]


class Inherited(Protocol):
    """What a child inherits."""

    def after_fork(self) -> None:
        """Note, in the child, that the process was forked. Must not fail, and takes no time."""


def tell_in_child(inherited: Inherited) -> None:
    """Let `Inherited.after_fork` be called in forked children, as long as the object lives."""
    _inherited.add(inherited)


def keep_for_ever(value: object) -> None:
    """Let an object never be destroyed, not even when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()


def _tell_all() -> None:
    for inherited in list(_inherited):
        inherited.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_all)
