"""What Ctrl-C has left: asked of the disk, for it may come when all is done but for a last line."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Outcome"]


class Outcome:
    """Whether a command has replaced the file that it writes last."""

    def __init__(self, file: Path, *, unchanged: str, written: str) -> None:
        """Remember the file as it is now; the sentences say that it still is so, and that it is another one."""
        self._file = file.expanduser()
        self._unchanged, self._written = unchanged, written
        self._before = self._stamp()

    def told(self) -> str:
        """The sentence that holds now."""
        return self._unchanged if self._stamp() == self._before else self._written

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
