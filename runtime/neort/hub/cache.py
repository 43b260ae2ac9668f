"""Where what was pulled lies, in the layout that all clients of the Hugging Face hub share.

    CACHE/models--OWNER--NAME/refs/main          the commit that a branch or tag was, when it was last asked for
                              snapshots/COMMIT/  the files by their names, links into
                              blobs/             their contents, named by hash; NAME.incomplete while they arrive
    CACHE/.locks/models--OWNER--NAME/            a lock for each blob

Folders of web servers have the same layout in a cache of neort's own, where a commit is the hash of manifest.json.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..paths import read_regular
from .names import Address, HubName, Name, is_commit

__all__ = ["DEFAULT_REVISION", "CachedRepository", "cached_repository", "folder_name", "hub_home"]

DEFAULT_REVISION = "main"
OWN_CACHE = "NEORT_CACHE"
LONGEST_REF = 1 << 10


class CachedRepository:
    """One repository in a cache; nothing of it need be there."""

    def __init__(self, cache: Path, name: str) -> None:
        """``name`` is its folder's in ``cache``."""
        self.cache = cache
        self.folder = cache / name
        self.blobs = self.folder / "blobs"
        self.locks = cache / ".locks" / name

    def commit_of(self, revision: str | None) -> str | None:
        """The commit that a revision was when it was last asked for; None where that is not known."""
        if revision is not None and is_commit(revision):
            return revision
        with contextlib.suppress(OSError, ValueError):
            commit = read_regular(self.ref(revision), LONGEST_REF).decode("ascii").strip()
            return commit if is_commit(commit) else None
        return None

    def ref(self, revision: str | None) -> Path:
        """The file that says which commit a revision is."""
        return self.folder / "refs" / (revision or DEFAULT_REVISION)

    def revisions(self) -> Iterator[str]:
        """The revisions whose commit is known and has files here."""
        refs = self.folder / "refs"
        for file in sorted(refs.rglob("*")):
            name = file.relative_to(refs).as_posix()
            commit = self.commit_of(name) if file.is_file() else None
            if commit is not None and self.snapshot(commit).is_dir():
                yield name

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit's files, which may have none of them."""
        return self.folder / "snapshots" / commit

    def partial(self, blob: str) -> Path:
        """What has arrived of a blob that is not whole."""
        return self.blobs / f"{blob}.incomplete"

    def arrived(self, blob: str) -> int:
        """How many bytes of a blob are there; 0 for one without a name."""
        for file in (self.blobs / blob, self.partial(blob)) if blob else ():
            with contextlib.suppress(OSError):
                return file.stat().st_size
        return 0

    def free_bytes(self) -> int | None:
        """The free bytes of the cache's disk; None where the system does not tell."""
        for folder in (self.cache, *self.cache.absolute().parents):
            with contextlib.suppress(OSError):
                return shutil.disk_usage(folder).free
        return None


def cached_repository(name: Name) -> CachedRepository:
    """Where a name's files lie, or will lie."""
    if isinstance(name, Address):
        return CachedRepository(_own_cache(), name.key)
    return CachedRepository(_hub_cache(), folder_name(name))


def folder_name(name: HubName) -> str:
    """What the folder of a model's repository is called in a cache."""
    return f"models--{name.repository.replace('/', '--')}"


def hub_home() -> Path:
    """The folder of all clients of the hub, with their cache and their token."""
    return _folder("HF_HOME") or _caches() / "huggingface"


def _hub_cache() -> Path:
    return _folder("HF_HUB_CACHE") or _folder("HUGGINGFACE_HUB_CACHE") or hub_home() / "hub"


def _own_cache() -> Path:
    return _folder(OWN_CACHE) or _caches() / "neort"


def _caches() -> Path:
    return _folder("XDG_CACHE_HOME") or Path(os.path.expanduser("~")) / ".cache"


def _folder(variable: str) -> Path | None:
    """The folder that a variable of the environment names; None where it is not set, or empty."""
    value = os.environ.get(variable)
    return Path(os.path.expandvars(os.path.expanduser(value))) if value else None
