"""Pulls from a hub on loopback, without any seconds going by."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from neort.errors import NeortError
from neort.hub import CachedRepository
from neort.pulling import Listener, Pulled, pull

__all__ = ["MAIN", "NAME", "Puller"]

NAME = "owner/tiny"
MAIN = "c0ffee" + 34 * "0"


@dataclass
class Puller:
    """Pulls into a cache, and keeps what it was told."""

    cached: CachedRepository
    told: list[str] = field(default_factory=list)
    moved: list[tuple[int, int]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    def __call__(self, name: str = NAME, format: str | None = None) -> Pulled:
        listener = Listener(self.told.append, lambda done, total: self.moved.append((done, total)))
        return pull(name, format, listener=listener, wait=self.waited.append)

    def refusal(self, name: str = NAME, format: str | None = None, error: type[NeortError] = NeortError) -> str:
        """What is said of a pull that fails, one sentence; no bundle appears."""
        before = [*self.cached.folder.rglob("manifest.json")]
        with pytest.raises(error) as caught:
            self(name, format)
        assert "\n" not in str(caught.value)
        assert [*self.cached.folder.rglob("manifest.json")] == before
        return str(caught.value)
