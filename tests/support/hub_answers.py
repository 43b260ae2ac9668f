"""What the servers of a hub on loopback answer: about repositories, where their files are, and the files."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from loopback_hub import Hub

__all__ = ["ANSWERS", "Answer", "Repository"]

LARGE = (".safetensors", ".bin", ".gguf", ".onnx", ".data")
NOT_FOUND = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
NO_REVISION = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}
NO_ENTRY = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
NOT_LOGGED_IN = {"X-Error-Message": "Invalid username or password."}
BAD_TOKEN = {"X-Error-Message": "Invalid credentials in Authorization header"}


@dataclass
class Repository:
    """A repository: its files at each commit, and what its branches and tags mean."""

    files: dict[str, bytes]
    revisions: dict[str, str] = field(default_factory=lambda: {"main": "c0ffee" + 34 * "0"})
    token: str | None = None
    """Without it the repository looks as if it did not exist."""
    gated: bool = False
    """Everybody sees it, nobody gets a file."""
    is_dataset: bool = False
    fails: tuple[int, dict[str, str]] | None = None
    """What every question about it is answered with."""
    silent: bool = False
    """No question about it is answered."""
    moved_to: str | None = None
    """Its new name, to which every question is redirected."""
    card: dict[str, Any] = field(default_factory=dict)
    listed_hashes: dict[str, str] = field(default_factory=dict)
    """Hashes that are listed instead of the files' own."""


@dataclass(frozen=True)
class Answer:
    """What a server answers."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    """After so many bytes the connection is closed, ``until`` then at the latest."""
    until: threading.Event | None = None
    length: int | None = -1
    """The length that is announced: -1 is the true one, None is none."""


def _from_hub(hub: Hub, parts: list[str], asked: dict[str, str]) -> Answer:
    """The hub's own answers: about repositories, and where their files are."""
    if len(parts) < 4:
        return Answer(404)
    if parts[:1] == ["api"] and parts[1] in ("models", "datasets"):
        owner, name, *rest = parts[2:]
        if rest[:1] == ["tree"]:
            return _tree(hub, f"{owner}/{name}", rest[1], asked)
        revision = "/".join(rest).removeprefix("revision/") or "main"
        return _about(hub, f"{owner}/{name}", revision, asked, is_dataset=parts[1] == "datasets")
    if parts[:3] == ["api", "resolve-cache", "models"]:
        owner, name, commit, file = parts[3:]
        return _small_file(hub.repositories[f"{owner}/{name}"].files[file], commit)
    owner, name, _resolve, revision, *folders = parts
    return _resolved(hub, f"{owner}/{name}", revision, "/".join(folders), asked)


def _refused(hub: Hub, name: str, asked: dict[str, str], *, is_dataset: bool = False) -> Answer | None:
    """What keeps a repository from being shown."""
    found = hub.repositories.get(name)
    token = asked.get("authorization", "").removeprefix("Bearer ")
    if found is not None and found.silent:
        hub.closing.wait()
    if found is not None and found.fails is not None:
        return Answer(*found.fails)
    if token == "bad":
        return Answer(401, BAD_TOKEN)
    if found is None or found.is_dataset != is_dataset:
        return Answer(404 if token else 401, NOT_FOUND)
    if found.token is not None and found.token != token:
        return Answer(404, NOT_FOUND) if token else Answer(401, NOT_LOGGED_IN)
    return None


def _about(hub: Hub, name: str, revision: str, asked: dict[str, str], *, is_dataset: bool) -> Answer:
    refused = _refused(hub, name, asked, is_dataset=is_dataset)
    if refused is not None:
        return refused
    found = hub.repositories[name]
    if found.moved_to is not None:
        return Answer(307, {"Location": f"/api/models/{found.moved_to}/revision/{revision}?blobs=true"})
    commit = _commit_of(found, revision)
    if commit is None:
        return Answer(404, NO_REVISION)
    content = {
        "id": name,
        "modelId": name,
        "sha": commit,
        "private": found.token is not None,
        "gated": "auto" if found.gated else False,
        "cardData": found.card,
        "siblings": [_listed(file, content, found.listed_hashes.get(file)) for file, content in found.files.items()],
        "tags": [],
    }
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(content).encode())


def _tree(hub: Hub, name: str, revision: str, asked: dict[str, str]) -> Answer:
    """All files, as newer clients ask for them."""
    refused = _refused(hub, name, asked)
    if refused is not None:
        return refused
    found = hub.repositories[name]
    if _commit_of(found, revision) is None:
        return Answer(404, NO_REVISION)
    entries = []
    for path, content in found.files.items():
        entry = {"type": "file", "path": path, "size": len(content), "oid": _git_hash(content)}
        large = {"oid": _sha256(content), "size": len(content), "pointerSize": 134}
        entries.append(entry | ({"lfs": large} if path.endswith(LARGE) else {}))
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(entries).encode())


def _listed(file: str, content: bytes, other_hash: str | None) -> dict[str, Any]:
    listed: dict[str, Any] = {"rfilename": file, "size": len(content), "blobId": other_hash or _git_hash(content)}
    if file.endswith(LARGE):
        listed["lfs"] = {"sha256": other_hash or _sha256(content), "size": len(content), "pointerSize": 134}
    return listed


def _resolved(hub: Hub, name: str, revision: str, file: str, asked: dict[str, str]) -> Answer:
    """Where a file is: a small one elsewhere on the hub, a large one on the other server."""
    refused = _refused(hub, name, asked)
    if refused is not None:
        return refused
    found = hub.repositories[name]
    if found.moved_to is not None:
        return Answer(307, {"Location": f"/{found.moved_to}/resolve/{revision}/{file}"})
    if found.gated:
        message = f"Access to model {name} is restricted. You must have access to it and be authenticated to access it."
        return Answer(
            403 if "authorization" in asked else 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": message}
        )
    commit = _commit_of(found, revision)
    if commit is None:
        return Answer(404, NO_REVISION)
    if file not in found.files:
        return Answer(404, NO_ENTRY)
    content = found.files[file]
    if not file.endswith(LARGE):
        place = f"/api/resolve-cache/models/{name}/{commit}/{quote(file, safe='')}"
        return Answer(307, {"Location": place, "X-Repo-Commit": commit, "ETag": f'"{_git_hash(content)}"'})
    headers = {
        "Location": f"{hub.cdn}/{name}/{_sha256(content)}",
        "X-Repo-Commit": commit,
        "X-Linked-Size": str(len(content)),
        "X-Linked-Etag": f'"{_sha256(content)}"',
    }
    return Answer(302, headers)


def _small_file(content: bytes, commit: str) -> Answer:
    return Answer(200, {"ETag": f'"{_git_hash(content)}"', "X-Repo-Commit": commit}, content)


def _from_cdn(hub: Hub, parts: list[str], asked: dict[str, str]) -> Answer:
    """A large file from a byte on, or the beginning of it where the next transfer is to break."""
    owner, name, digest = parts
    contents = hub.repositories[f"{owner}/{name}"].files.values()
    content = next(each for each in contents if _sha256(each) == digest)
    return _part(content, asked, {"ETag": f'"{digest}"'}, hub.breaks.pop(0) if hub.breaks else None)


def _from_web(hub: Hub, parts: list[str], asked: dict[str, str]) -> Answer:
    """A file of a folder, from a byte on."""
    content = hub.pages.get("/" + "/".join(parts))
    return Answer(404) if content is None else _part(content, asked, {}, hub.breaks.pop(0) if hub.breaks else None)


def _part(content: bytes, asked: dict[str, str], headers: dict[str, str], cut: int | None) -> Answer:
    """A content from the byte on that was asked for."""
    start = int(asked.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
    headers = {**headers, "Accept-Ranges": "bytes"}
    if start and start >= len(content):
        return Answer(416, {"Content-Range": f"bytes */{len(content)}"})
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return Answer(206 if start else 200, headers, content[start:], cut)


ANSWERS = {"hub": _from_hub, "cdn": _from_cdn, "web": _from_web}


def _commit_of(found: Repository, revision: str) -> str | None:
    return revision if revision in found.revisions.values() else found.revisions.get(revision)


@functools.cache
def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@functools.cache
def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
