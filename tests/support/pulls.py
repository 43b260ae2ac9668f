"""Pulls from a hub on loopback, without any seconds going by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import neort
from loopback_hub import Answer
from neort.errors import NeortError
from neort.hub import CachedRepository
from neort.pulling import Listener, Pulled, pull

__all__ = ["MAIN", "NAME", "Puller", "is_whole", "on"]

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


def is_whole(path: Path) -> bool:
    return neort.Bundle(path, check_weights=True).path == path


def on(server: str, part: str, *answers: Answer | None) -> Callable[[str, str, dict[str, str]], Answer | None]:
    """A fault: a server's answers to what is asked for by a path with this part, the last one for ever."""
    left = list(answers)

    def fault(asked_server: str, path: str, asked: dict[str, str]) -> Answer | None:
        if asked_server != server or part not in path:
            return None
        return left.pop(0) if len(left) > 1 else left[0]

    return fault
