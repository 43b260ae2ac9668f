"""How far a command is, on standard error: a bar in a terminal, a line now and then anywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType

from ..streams import tell

__all__ = ["Progress"]

BAR_SECONDS = 0.1
LINE_SECONDS = 10.0
BAR_WIDTH = 24
CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Says how far a command is, within its context; silent where there is too little to say."""

    def __init__(self, what: str, *, silent: bool = False) -> None:
        """``what`` stands before each line; ``silent`` says nothing, where what is done is seen as it is."""
        self._what = what
        self._silent = silent
        self._in_terminal = sys.stderr.isatty()
        self._shown = False
        self._start: float | None = None  # the fraction that was done before
        self._began = time.monotonic()
        self._next = self._began + (BAR_SECONDS if self._in_terminal else LINE_SECONDS)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()

    def update(self, fraction: float | None, said: str) -> None:
        """Say where the command is, if it is time to: a ``fraction`` of it is done, None where nobody knows."""
        now = time.monotonic()
        if self._start is None and fraction is not None:
            self._start, self._began = fraction, now
        if self._silent or now < self._next:
            return
        self._next = now + (BAR_SECONDS if self._in_terminal else LINE_SECONDS)
        parts = [said] if fraction is None else [f"{fraction:.0%}", said, *self._left(fraction, now)]
        if not self._in_terminal:
            tell(f"{self._what}: {', '.join(parts)}")
            return
        bar = "" if fraction is None else f"[{'=' * int(fraction * BAR_WIDTH):{BAR_WIDTH}}] "
        line = f"{self._what} {bar}{', '.join(parts)}"[: shutil.get_terminal_size().columns - 1]
        tell(f"{CLEAR_LINE}{line}", end="")
        self._shown = True

    def clear(self) -> None:
        """Remove the bar."""
        if self._shown:
            tell(CLEAR_LINE, end="")
            self._shown = False

    def _left(self, fraction: float, now: float) -> list[str]:
        done = fraction - (self._start or 0.0)
        if done <= 0 or fraction >= 1:
            return []
        minutes, seconds = divmod(round((now - self._began) * (1 - fraction) / done), 60)
        return [f"{minutes}:{seconds:02d} left"]
