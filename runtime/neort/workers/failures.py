"""What went wrong in a worker, told to its parent: the same error, by its name and its sentence."""

from __future__ import annotations

import traceback

from .. import errors
from ..errors import EngineError, NeortError, OutOfMemoryError

__all__ = ["failure", "in_words"]


def in_words(error: BaseException) -> tuple[str, str]:
    """The name of an error of neort's and its sentence; any other is a fault, whose traceback is printed here."""
    for each in type(error).__mro__:
        if each.__name__ in errors.__all__:
            return each.__name__, str(error)
    if isinstance(error, MemoryError):
        return OutOfMemoryError.__name__, f"the system gives no more memory ({error or 'MemoryError'}); do less at once"
    traceback.print_exception(error)
    return EngineError.__name__, f"it failed with {type(error).__name__}, whose traceback is above"


def failure(who: object, name: str, sentence: str) -> NeortError:
    """The error that `in_words` told, of ``who``."""
    kind: type[NeortError] = getattr(errors, name)
    return kind(f"{who}: {sentence}")
