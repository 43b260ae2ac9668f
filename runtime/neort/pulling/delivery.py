"""`pull`: a bundle from a hub or a web server into the cache, where its name is enough to load it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..bundle import FORMATS, MANIFEST, WEIGHTS, check_manifest, parsed_json, read_spec
from ..errors import BundleError, ConfigError, HubError, NeortError, StorageError
from ..files import storage_errors
from ..hub import DEFAULT_REVISION, Address, HubName, Name, cached_bundle, cached_repository, is_folder, required_name
from ..wording import shortened
from .client import Client
from .environment import hub_endpoint, hub_token, is_offline, timeouts
from .failures import AskingError
from .refusals import refusal
from .sources import FolderSource, HubSource, Small, Source
from .store import Store, Wanted
from .transfer import Transfer

__all__ = ["Listener", "Pulled", "pull"]

MOST_FILES = 100
PORTABLE = re.compile(r"\w(?:[\w.+-]{0,198}[\w+-])?", re.ASCII)
DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names of Windows
REMEDY = "whoever publishes it has to export it again"


@dataclass(frozen=True)
class Pulled:
    """What is in the cache now: the bundle's folder, by which name to load it, and bytes that had to be fetched."""

    path: Path
    name: Name
    commit: str
    fetched: int


@dataclass(frozen=True)
class Listener:
    """Who is told how far a pull is: sentences, and bytes done of how many."""

    tell: Callable[[str], None] = lambda _: None
    progress: Callable[[int, int], None] = lambda done, total: None


def pull(
    text: str,
    format: str | None = None,
    *,
    listener: Listener | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Pulled:
    """Bring a bundle into the cache, or what it lacks there of the newest one.

    ``text`` is OWNER/NAME[/FORMAT][@REVISION] on the hub that HF_ENDPOINT names, or the https address of a folder;
    ``format`` is the folder within it. ``wait`` lets seconds go by.

    Raises HubError where it is not handed out, BundleError where it is damaged or of another version, StorageError
    where the disk cannot hold it, ConfigError for what can be no name.
    """
    listener = listener or Listener()
    name = _name(text, format)
    if is_offline():
        return _without_connection(name, listener)
    endpoint = hub_endpoint()
    try:
        with storage_errors(
            str(name),
            cached_repository(name).cache,
            "what has arrived is kept; make room or let this "
            "user write there, or set HF_HOME to another folder (for an address, NEORT_CACHE), and pull it again",
        ):
            return _Delivery(_source(name, endpoint, listener, wait), listener, wait).run()
    except AskingError as error:
        raise refusal(error, name, endpoint) from error


def _name(text: str, format: str | None) -> Name:
    name = required_name(text)
    if format is None:
        return name
    if not is_folder(format):
        raise ConfigError(f"{shortened(format)} can be no format; give one such as {', '.join(FORMATS)}")
    if isinstance(name, HubName) and name.folder not in (None, format):
        raise ConfigError(f"{name} is in the folder {name.folder}, and --format is {format}; give one of them")
    return name.within(format)


def _without_connection(name: Name, listener: Listener) -> Pulled:
    """What the cache holds. Raises HubError where that is nothing."""
    try:
        path = cached_bundle(name)
    except NeortError as error:
        raise HubError(f"HF_HUB_OFFLINE forbids to ask for {name}, and {error}; unset it to pull") from None
    commit = cached_repository(name).commit_of(name.revision if isinstance(name, HubName) else None)
    listener.tell(f"HF_HUB_OFFLINE is set, so nobody was asked: the cache has {name} at {commit}")
    return Pulled(path, name, str(commit), 0)


def _source(name: Name, endpoint: str, listener: Listener, wait: Callable[[float], None]) -> Source:
    agent, timeout = f"neort/{__version__}", timeouts()[0]
    if isinstance(name, Address):
        return FolderSource(name, Client(agent, wait=wait, tell=listener.tell), timeout)
    client = Client(agent, token=hub_token(), origin=endpoint, wait=wait, tell=listener.tell)
    return HubSource(name, client, endpoint, timeout)


class _Delivery:
    """One bundle on its way."""

    def __init__(self, source: Source, listener: Listener, wait: Callable[[float], None]) -> None:
        self._source, self._listener, self._wait = source, listener, wait
        self._store = Store(source.cached, listener.tell)

    def run(self) -> Pulled:
        source = self._source
        source.look()
        small = source.manifest()
        wanted = self._wanted(small)
        missing = [each for each in wanted if not self._store.has(source.commit, each)]
        total = sum(each.size for each in missing)
        self._tell_about(wanted, missing)
        self._check_room(missing)
        self._fetch(missing, total)
        for card in source.cards():
            self._keep(card)
        self._keep(small)  # the last of the files: without it the others are no bundle
        revision = source.name.revision if isinstance(source.name, HubName) else None
        if revision != source.commit:
            self._store.refer(revision or DEFAULT_REVISION, source.commit)
        path = source.cached.snapshot(source.commit) / source.folder
        return Pulled(path, _loadable(source.name, path), source.commit, total)

    def _wanted(self, small: Small) -> list[Wanted]:
        """The files that a manifest lists, small ones first. Raises BundleError for one that cannot be right."""
        name = self._source.name
        try:
            manifest = self._parsed(small)
        except BundleError as error:
            raise BundleError(f"{name} was not pulled: {error}") from None
        files = manifest["files"]
        strange = [file for file in files if not PORTABLE.fullmatch(file) or DEVICE.fullmatch(file) or file == MANIFEST]
        if strange or len(files) > MOST_FILES:
            what = f"the file {shortened(strange[0])}" if strange else f"{len(files):,} files"
            raise BundleError(f"{name} was not pulled: its manifest lists {what}, as no bundle does; {REMEDY}")
        found = [Wanted(f"{self._source.folder}{file}", x["bytes"], x["sha256"]) for file, x in files.items()]
        return sorted(found, key=lambda each: (each.size, each.path))

    def _parsed(self, small: Small) -> dict[str, Any]:
        name = self._source.name
        label = Path(str(name).partition("://")[2] or str(name).partition("@")[0])
        manifest = parsed_json(small.contents, small.path, BundleError, REMEDY)
        check_manifest(manifest, label)
        read_spec(manifest, label / MANIFEST)
        if WEIGHTS not in manifest["files"]:
            raise BundleError(f"{small.path} lists no {WEIGHTS}; {REMEDY}")
        found = manifest["recipe"]["quantization"]
        wanted = name.url.rpartition("/")[2] if isinstance(name, Address) else name.folder or self._source.folder[:-1]
        if wanted in FORMATS and found != wanted:
            raise BundleError(f"what it has as {wanted} is a bundle in the format {shortened(found)}; {REMEDY}")
        return manifest

    def _tell_about(self, wanted: list[Wanted], missing: list[Wanted]) -> None:
        source = self._source
        kind = f"{source.folder.rstrip('/')}, " if source.folder else ""
        size = f"{sum(each.size for each in wanted) / 1e6:,.1f} MB in {len(wanted)} files"
        here = "" if len(missing) == len(wanted) else f", {len(wanted) - len(missing)} of them are here"
        self._listener.tell(f"{source.name} is commit {source.commit[:12]}: {kind}{size}{here}")
        others = [each for each in source.formats if f"{each}/" != source.folder]
        if others and isinstance(source.name, HubName) and source.name.folder is None:
            self._listener.tell(f"it comes as {', '.join(others)}, too: --format names one")

    def _check_room(self, missing: list[Wanted]) -> None:
        """Raises StorageError where the disk cannot hold what is missing; nothing of it was fetched."""
        cached = self._source.cached
        needed = sum(each.size - min(each.size, cached.arrived(each.sha256)) for each in missing)
        free = cached.free_bytes()
        if free is not None and needed > free:
            raise StorageError(
                f"{self._source.name} takes {needed:,} bytes more, and the disk of the cache {cached.cache} has "
                f"{free:,}; nothing was fetched: make room there, or set HF_HOME to a folder on another disk"
            )

    def _fetch(self, missing: list[Wanted], total: int) -> None:
        done = 0

        def advance(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            self._listener.progress(done, total)

        transfer = Transfer(self._source, self._store, timeout=timeouts()[1], advance=advance, wait=self._wait)
        for wanted in missing:
            transfer.fetch(wanted)

    def _keep(self, small: Small) -> None:
        """Put a small file into the cache."""
        with self._store.locked(small.blob):
            self._store.put(small.blob, small.contents)
            self._store.link(small.blob, self._source.commit, small.path)


def _loadable(name: Name, path: Path) -> Name:
    """The name by which a folder of the cache is found: with the format, where there are several."""
    try:
        if isinstance(name, Address) or cached_bundle(name) == path:
            return name
    except NeortError:
        pass
    return name.within(path.name)
