"""What long work tells while it goes on."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Receives the stages of an export or a verification."""

    def stage(self, name: str, nbytes: int = 0) -> None:
        """A new stage begins, in which so many bytes of weights will be processed; 0: not known."""

    def advance(self, nbytes: int) -> None:
        """So many bytes more were processed."""


class Silent:
    """No progress."""

    def stage(self, name: str, nbytes: int = 0) -> None: ...
    def advance(self, nbytes: int) -> None: ...
