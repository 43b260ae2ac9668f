"""Progress on a terminal."""

from __future__ import annotations

import sys

__all__ = ["Terminal"]


class Terminal:
    """Progress on stderr: a line per stage, a bar with bytes and rate where weights are read or written."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._bar = tqdm(disable=True)

    def stage(self, name: str, nbytes: int = 0) -> None:
        """End the last stage's bar and begin another; 0 bytes: no bar."""
        self._bar.close()
        print(f"{name} ...", file=sys.stderr)
        self._bar = self._tqdm(total=nbytes, unit="B", unit_scale=True, leave=False, disable=None if nbytes else True)

    def advance(self, nbytes: int) -> None:
        """Move the bar."""
        self._bar.update(nbytes)
