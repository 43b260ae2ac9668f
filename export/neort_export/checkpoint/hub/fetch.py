"""Fetches what is needed of a repository, by the hub's own client, into its cache: told, measured, checked, resumed."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from neort import __version__
from neort.bundle import sha256_of
from neort.errors import NeortError
from neort.hub import is_commit

from ...progress import Progress
from ..reading import read_object
from .cache import DEFAULT, CachedRepository, shards
from .names import HubName
from .parts import ADAPTER_CONFIG, Parts, wanted_files
from .refusals import is_broken, is_mismatched, is_missing, is_unreachable, refusal
from .unusable import damaged, no_files, no_room, strange

__all__ = ["fetch"]

WATCHED_SECONDS = 0.2
BLOCK = 1 << 20  # bytes hashed at a time


def fetch(name: HubName, parts: Parts, progress: Progress) -> tuple[Path, str]:
    """The folder of a snapshot in the cache, with the wanted files of it, and its commit.

    Where the hub cannot be reached, or HF_HUB_OFFLINE is set, it is what the cache has.

    Raises CheckpointError for what the hub does not hand out, StorageError where the disk cannot hold it.
    """
    with _quiet_client():
        return _Fetch(name, parts, progress).run()


class _Fetch:
    """One repository, of which some files are wanted."""

    def __init__(self, name: HubName, parts: Parts, progress: Progress) -> None:
        from huggingface_hub import HfApi, constants

        self.name, self.parts, self.progress = name, parts, progress
        self.cached = CachedRepository(name)
        release = importlib.metadata.version("huggingface_hub")
        self.headers = {"user-agent": f"neort/{__version__}; hf_hub/{release}"}  # and no word of what else is installed
        self.api = HfApi(headers=self.headers)
        self.timeout = constants.HF_HUB_ETAG_TIMEOUT
        self.files: dict[str, Any] = {}

    def run(self) -> tuple[Path, str]:
        try:
            info = self.api.model_info(
                self.name.repository, revision=self.name.revision, files_metadata=True, timeout=self.timeout
            )
        except Exception as error:  # the client's, HTTP's, the socket's and JSON's errors share no other base
            return self._without_hub(error)
        if not is_commit(str(info.sha)):
            raise strange(self.name, f"its commit is {info.sha!r}")
        self.commit = str(info.sha)
        self.files = {file.rfilename: file for file in info.siblings or []}
        try:
            wanted = self._wanted(info)
            self._fetch([file for file in wanted if not self.cached.has(self.commit, file)])
            if not self.name.is_commit and self.cached.commit() != self.commit:
                self._download(wanted[0], self.name.revision or DEFAULT)  # the client notes which commit that is
        except NeortError:
            raise
        except Exception as error:
            raise refusal(error, self.name, self.cached) from error
        return self.cached.snapshot(self.commit), self.commit

    def _without_hub(self, error: Exception) -> tuple[Path, str]:
        """What the cache has, where the hub cannot be asked; raises the refusal otherwise."""
        commit = self.cached.commit()
        if is_unreachable(error) and commit is not None and not self.cached.lacks(commit, self.parts):
            self.progress.stage(f"taking {self.name} from the cache, commit {commit}, without asking the hub")
            return self.cached.snapshot(commit), commit
        lacking = self.cached.lacks(commit, self.parts) if commit and self.cached.snapshot(commit).is_dir() else []
        is_dataset = is_missing(error) and self._is_dataset()
        raise refusal(error, self.name, self.cached, lacking=lacking, is_dataset=is_dataset) from error

    def _is_dataset(self) -> bool:
        with contextlib.suppress(Exception):
            return bool(self.api.repo_exists(self.name.repository, repo_type="dataset"))
        return False

    def _wanted(self, info: Any) -> list[str]:
        """The files that are needed. Raises CheckpointError where there are no weights that are read here."""
        found = wanted_files(self.parts, self.files, self._shards)
        if not found:
            base = None
            if self.parts is Parts.MODEL and ADAPTER_CONFIG in self.files:
                base = read_object(self._download(ADAPTER_CONFIG, self.commit)).get("base_model_name_or_path")
            raise no_files(self.name, self.parts, self.files, base=base, card=info.card_data)
        return found

    def _shards(self, index: str) -> Collection[str]:
        return shards(self._download(index, self.commit))

    def _fetch(self, missing: list[str]) -> None:
        """Fetch files, once their size is told and has room. Raises StorageError, or what the client raises."""
        if not missing:
            return
        sizes = {file: int(self.files[file].size or 0) for file in missing}
        here = sum(min(size, self.cached.arrived(_hash_of(self.files[file]))) for file, size in sizes.items())
        total = sum(sizes.values())
        free = self.cached.free_bytes()
        if free is not None and total - here > free:
            raise no_room(self.name, total - here, free, self.cached)
        resumed = f", {here / 1e6:,.1f} MB of them are here already" if here else ""
        count = "1 file" if len(missing) == 1 else f"{len(missing)} files"
        self.progress.stage(f"fetching {self.name}: {count}, {total / 1e6:,.1f} MB{resumed}", total - here)
        with _watched(self.cached, self.progress):
            for file in missing:
                self._download(file, self.commit)
        self.progress.stage("checking what has arrived", total)
        for file in missing:
            self._check(file)

    def _download(self, file: str, revision: str) -> Path:
        """Fetch one file in this thread, so that Ctrl-C ends it.

        A broken transfer goes on as long as bytes arrive, and begins anew where what had arrived cannot be right.
        """
        from huggingface_hub import hf_hub_download

        blob = _hash_of(self.files[file])
        while True:
            before = self.cached.arrived(blob)
            try:
                return Path(hf_hub_download(self.name.repository, file, revision=revision, headers=dict(self.headers)))
            except Exception as error:
                goes_on = is_broken(error) and self.cached.arrived(blob) > before
                if not goes_on and not (is_mismatched(error) and self.cached.remove_partial(blob)):
                    raise

    def _check(self, file: str) -> None:
        """Raises CheckpointError for a file that is not what the hub lists, and drops it: the client compares sizes."""
        path, listed = self.cached.snapshot(self.commit) / file, _hash_of(self.files[file])
        found = sha256_of(path) if len(listed) == 64 else _git_hash(path)
        self.progress.advance(path.stat().st_size)
        if listed and found != listed:
            self.cached.remove(self.commit, file)
            raise damaged(self.name, file, found, listed)


def _hash_of(file: Any) -> str:
    """The hash by which the hub lists a file: SHA-256 of a large one, git's of a small one; empty where it has none."""
    return str((file.lfs.sha256 if file.lfs else file.blob_id) or "")


def _git_hash(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _watched(cached: CachedRepository, progress: Progress) -> Iterator[None]:
    """Tell progress by what arrives on disk, whichever way the client fetches it."""
    ended = threading.Event()
    told = cached.size()

    def tell() -> None:
        nonlocal told
        now = cached.size()
        if now > told:
            progress.advance(now - told)
            told = now

    def watch() -> None:
        while not ended.wait(WATCHED_SECONDS):
            tell()

    watcher = threading.Thread(target=watch, name="neort-fetch-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    tell()


@contextlib.contextmanager
def _quiet_client() -> Iterator[None]:
    """The client without bars and log of its own, unless the environment asks for them, and without its telemetry.

    That would ask the hub how to tell which program has started this one, and name it.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from huggingface_hub.utils import logging as log

    verbosity, telemetry = log.get_verbosity(), constants.HF_HUB_DISABLE_TELEMETRY
    hide = constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled()
    constants.HF_HUB_DISABLE_TELEMETRY = True
    if hide:
        disable_progress_bars()
    if "HF_HUB_VERBOSITY" not in os.environ and not constants.HF_DEBUG:
        log.set_verbosity_error()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry
        if hide:
            enable_progress_bars()
