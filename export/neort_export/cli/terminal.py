"""Progress on a terminal; where it cannot be told, the work goes on all the same."""

from __future__ import annotations

import contextlib

from neort.cli.streams import tell

__all__ = ["Terminal"]


class Terminal:
    """Progress on stderr: a line per stage, a bar with bytes and rate where weights are read or written."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._bar = tqdm(disable=True)

    def stage(self, name: str, nbytes: int = 0) -> None:
        """End the last stage's bar and begin another; 0 bytes: no bar."""
        with contextlib.suppress(OSError):
            self._bar.close()
        tell(f"{name} ...")
        with contextlib.suppress(OSError):
            self._bar = self._tqdm(
                total=nbytes, unit="B", unit_scale=True, leave=False, disable=None if nbytes else True
            )

    def advance(self, nbytes: int) -> None:
        """Move the bar."""
        with contextlib.suppress(OSError):
            self._bar.update(nbytes)
