"""What the hub client's cache holds of a checkpoint's repository; `neort.hub` has its layout."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from neort import hub

from ...errors import CheckpointError
from ..reading import LARGE_FILE, read_object
from .names import HubName
from .parts import CONFIG, Parts, wanted_files, weight_index

__all__ = ["CachedRepository"]

DEFAULT = hub.DEFAULT_REVISION


class CachedRepository(hub.CachedRepository):
    """One repository in the cache; nothing of it need be there."""

    def __init__(self, name: HubName) -> None:
        from huggingface_hub import constants

        super().__init__(Path(constants.HF_HUB_CACHE), hub.folder_name(name))
        self.name = name

    def commit(self) -> str | None:
        """The commit that the name's revision was when it was last asked for; None where that is not known."""
        return self.commit_of(self.name.revision)

    def has(self, commit: str, file: str) -> bool:
        """Whether a commit's file is there; files appear whole or not at all."""
        return (self.snapshot(commit) / file).is_file()

    def lacks(self, commit: str, parts: Parts) -> list[str]:
        """What a snapshot lacks of the wanted files, as far as that can be told without the hub."""
        folder = self.snapshot(commit)
        there = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set[str]()
        lacking = [CONFIG] if parts is Parts.MODEL and CONFIG not in there else []
        if not wanted_files(parts, there, lambda _: ()):
            return [*lacking, "the tokenizer's files" if parts is Parts.TOKENIZER else "the weights"]
        index = weight_index(there) if parts is Parts.MODEL else None
        return lacking + [name for name in shards(folder / index) if name not in there] if index else lacking

    def remove_partial(self, blob: str) -> bool:
        """Drop what has arrived of a blob; returns whether that was anything."""
        there = self.partial(blob).is_file()
        self.partial(blob).unlink(missing_ok=True)
        return there

    def size(self) -> int:
        """Bytes of all blobs, whole or in part."""
        total = 0
        with contextlib.suppress(OSError):
            for file in self.blobs.iterdir():
                with contextlib.suppress(OSError):
                    total += file.stat().st_size
        return total

    def remove(self, commit: str, file: str) -> None:
        """Drop a file and its contents, so that it is fetched anew."""
        link = self.snapshot(commit) / file
        link.resolve().unlink(missing_ok=True)
        link.unlink(missing_ok=True)


def shards(index: Path) -> Collection[str]:
    """The files that an index of weights names; none where it is no index, which opening the checkpoint tells."""
    try:
        weight_map = read_object(index, LARGE_FILE).get("weight_map")
    except CheckpointError:
        return set()
    names = weight_map.values() if isinstance(weight_map, dict) else ()
    return {name for name in names if isinstance(name, str) and Path(name).name == name}
