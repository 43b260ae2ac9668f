"""Where a bundle comes from: a repository on a hub at one commit, or a folder of a web server as it is now."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from typing import Any, Protocol
from urllib.parse import quote

from ..bundle import FORMATS, LARGEST_MANIFEST, MANIFEST
from ..errors import HubError
from ..hub import Address, CachedRepository, HubName, Name, cached_repository, is_commit, is_folder
from ..wording import shortened
from .client import Answer, Client
from .failures import NoAnswerError, StrangeAnswerError, host_of
from .store import Digests

__all__ = ["FolderSource", "HubSource", "Small", "Source"]

CARD = "README.md"
LARGEST_LISTING = 16 << 20
LARGEST_CARD = 4 << 20
DEFAULT_FORMAT = "int8"
BLOB = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
CHECKPOINT = (".safetensors", "pytorch_model.bin")


class Small:
    """A small file that has arrived: its path in the repository, its contents, and the blob that it is."""

    def __init__(self, path: str, contents: bytes, blob: str) -> None:
        self.path, self.contents, self.blob = path, contents, blob


class Source(Protocol):
    """What a pull asks: `look` comes first."""

    client: Client
    cached: CachedRepository
    commit: str
    folder: str
    """Where the bundle is within a commit's files: empty, or with a slash at its end."""
    formats: list[str]
    """The folders that hold bundles."""

    @property
    def name(self) -> Name: ...
    def look(self) -> None: ...
    def manifest(self) -> Small: ...
    def cards(self) -> list[Small]: ...
    def url(self, file: str) -> str: ...
    def blob_of(self, headers: dict[str, str]) -> str | None: ...


class HubSource:
    """A repository on a hub."""

    def __init__(self, name: HubName, client: Client, endpoint: str, timeout: float) -> None:
        self.name = name
        self.cached = cached_repository(name)
        self.client = client
        self._endpoint, self._timeout = endpoint, timeout
        self.commit, self.folder = "", ""
        self.formats: list[str] = []
        self._listed: set[str] = set()

    def look(self) -> None:
        """Ask which commit it is, and which bundles it holds. Raises AskingError, HubError where there is no bundle."""
        self.commit, self._listed = self._commit_and_files()
        found = {path.rpartition("/")[0] for path in self._listed if path.rpartition("/")[2] == MANIFEST}
        self.formats = sorted(folder for folder in found if is_folder(folder))
        self.folder = self._chosen("" in found)

    def manifest(self) -> Small:
        return self._small(f"{self.folder}{MANIFEST}", LARGEST_MANIFEST)

    def cards(self) -> list[Small]:
        """The cards of the repository and of the bundle, as far as there are any."""
        return [self._small(path, LARGEST_CARD) for path in sorted({CARD, f"{self.folder}{CARD}"} & self._listed)]

    def url(self, file: str) -> str:
        return f"{self._endpoint}/{self.name.repository}/resolve/{self.commit}/{quote(file)}"

    def blob_of(self, headers: dict[str, str]) -> str | None:
        """The name that the hub's clients give to a file's contents, its hash; None where the server tells none."""
        etag = headers.get("x-linked-etag") or headers.get("etag") or ""
        name = etag.removeprefix("W/").strip('"')
        return name if BLOB.fullmatch(name) else None

    def _commit_and_files(self) -> tuple[str, set[str]]:
        revision = quote(self.name.revision or "main", safe="")
        address = f"{self._endpoint}/api/models/{self.name.repository}/revision/{revision}"
        told = _parsed(*self.client.read(address, LARGEST_LISTING, timeout=self._timeout))
        commit, siblings = told.get("sha"), told.get("siblings")
        if not (isinstance(commit, str) and is_commit(commit) and isinstance(siblings, list)):
            raise StrangeAnswerError(f"{host_of(address)} answers something else than a hub does", address)
        if self.name.is_commit and commit != self.name.revision:
            raise StrangeAnswerError(f"{host_of(address)} answers for another commit, {commit}", address)
        names = (each.get("rfilename") for each in siblings if isinstance(each, dict))
        return commit, {name for name in names if isinstance(name, str)}

    def _chosen(self, at_root: bool) -> str:
        """The folder of the bundle: the one that was asked for, the only one, or the one in the default format."""
        wanted = self.name.folder
        if wanted in self.formats:
            return f"{wanted}/"
        if at_root and (wanted is None or wanted in FORMATS):  # of which the manifest says the format
            return ""
        if wanted is None and (len(self.formats) == 1 or DEFAULT_FORMAT in self.formats):
            return f"{self.formats[0] if len(self.formats) == 1 else DEFAULT_FORMAT}/"
        if self.formats:
            has = f"{self.name.repository} has {', '.join(self.formats)}"
            lacks = "" if wanted is None else f" and no {shortened(wanted)}"
            raise HubError(f"{has}{lacks}; choose one by --format")
        raise HubError(_no_bundle(self.name, self._listed))

    def _small(self, path: str, limit: int) -> Small:
        address = self.url(path)
        contents, answer = self.client.read(address, limit, timeout=self._timeout)
        other = answer.headers.get("x-repo-commit", self.commit)
        if other != self.commit:
            raise StrangeAnswerError(
                f"{host_of(address)} hands out another commit's {path}, {shortened(other)}", address
            )
        digests = _digests(contents)
        blob = self.blob_of(answer.headers) or digests.sha256
        if blob not in (digests.sha256, digests.git):
            raise NoAnswerError(
                f"{path} arrived with other contents than {host_of(address)} lists", address, passes=True
            )
        return Small(path, contents, blob)


class FolderSource:
    """A folder of a web server that hands out files as they are."""

    def __init__(self, name: Address, client: Client, timeout: float) -> None:
        self.name = name
        self.cached = cached_repository(name)
        self.client, self._timeout = client, timeout
        self.commit, self.folder = "", ""
        self.formats: list[str] = []

    def look(self) -> None:
        """Ask for the manifest, whose hash stands for a commit. Raises AskingError."""
        self._contents, answer = self.client.read(self.url(MANIFEST), LARGEST_MANIFEST, timeout=self._timeout)
        if answer.is_page:
            raise StrangeAnswerError(f"{host_of(answer.url)} answers with a page for people", answer.url)
        self.commit = hashlib.sha256(self._contents).hexdigest()[:40]

    def manifest(self) -> Small:
        return Small(MANIFEST, self._contents, _digests(self._contents).sha256)

    def cards(self) -> list[Small]:
        """None: nothing tells whether what would arrive is right."""
        return []

    def url(self, file: str) -> str:
        return f"{self.name.url}/{quote(file)}"

    def blob_of(self, headers: dict[str, str]) -> str | None:
        """None: what a web server has as an ETag may look like a hash, and be any text."""
        return None


def _digests(contents: bytes) -> Digests:
    digests = Digests(len(contents))
    digests.update(contents)
    return digests


def _parsed(contents: bytes, answer: Answer) -> dict[str, Any]:
    """The object of a JSON answer. Raises StrangeAnswerError for any other answer."""
    try:
        value = json.loads(contents)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        kind = "a page for people" if answer.is_page else "something else than a hub does"
        raise StrangeAnswerError(f"{host_of(answer.url)} answers with {kind}", answer.url)
    return value


def _no_bundle(name: HubName, listed: Collection[str]) -> str:
    if any(path.endswith(CHECKPOINT) for path in listed):
        return f"{name} is a checkpoint, no bundle; make one of it: neort-export {name} -o BUNDLE"
    folder = f" in {name.folder}" if name.folder else ""
    return f"{name.repository} has no bundle{folder}, at its root or in a folder below it; correct the name"
