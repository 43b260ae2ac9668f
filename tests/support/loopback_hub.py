"""A small Hugging Face hub on loopback: as much of it as the hub's client asks for, with faults on demand.

Large files lie on a second server, as the real hub's do, to which the first one redirects; a third one hands out a
folder's files as they are. Every request is noted with its answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

__all__ = ["Answer", "Hub", "Repository", "Request", "running_hub"]

LARGE = (".safetensors", ".bin", ".gguf", ".onnx", ".data")
NOT_FOUND = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
NO_REVISION = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}
NO_ENTRY = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
NOT_LOGGED_IN = {"X-Error-Message": "Invalid username or password."}
BAD_TOKEN = {"X-Error-Message": "Invalid credentials in Authorization header"}
PIECE = 1 << 16


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
class Request:
    """A request that arrived, and how it was answered."""

    server: str
    method: str
    path: str
    headers: dict[str, str]
    status: int
    sent: int

    def __str__(self) -> str:
        asked = "".join(
            f" [{name}: {self.headers[name]}]" for name in ("range", "authorization") if name in self.headers
        )
        return f"{self.server:3} {self.method:4} {self.path}{asked} -> {self.status}, {self.sent:,} bytes"


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


Fault = Callable[[str, str, dict[str, str]], Answer | None]


class Hub:
    """The servers, what they hold, and what they were asked."""

    def __init__(self, certificate: ssl.SSLContext | None = None) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.breaks: list[int] = []
        """After so many bytes the next transfers of large files break off, one each."""
        self.pages: dict[str, bytes] = {}
        """What the third server hands out, by path."""
        self.fault: Fault = lambda server, path, asked: None
        """What is answered instead, for a server, a path and the headers of a request."""
        self.closing = threading.Event()
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, name)) for name in ("hub", "cdn", "web")]
        self.endpoint, self.cdn, self.web = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)
        if certificate is not None:
            self.web = self.web.replace("http:", "https:")
            web = self._servers[2]
            web.socket = certificate.wrap_socket(web.socket, server_side=True)

    def asked(self, method: str, *, server: str = "hub") -> list[str]:
        """The paths that were asked for by a method."""
        return [each.path for each in self.requests if (each.method, each.server) == (method, server)]

    def log(self) -> str:
        """What was asked and answered, a line each."""
        return "\n".join(map(str, self.requests))

    @contextlib.contextmanager
    def running(self) -> Iterator[Hub]:
        """Serve until the block ends."""
        threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in self._servers]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            for server in self._servers:
                server.shutdown()
                server.server_close()
            for thread in threads:
                thread.join()


def running_hub(certificate: ssl.SSLContext | None = None) -> contextlib.AbstractContextManager[Hub]:
    """A hub that serves until the block ends; with a certificate the third server is encrypted."""
    return Hub(certificate).running()


def _handler(hub: Hub, server: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            asked = {name.lower(): value for name, value in self.headers.items()}
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            path = "/" + "/".join(parts)
            answer = hub.fault(server, path, asked) or ANSWERS[server](hub, parts, asked)
            body = answer.body[: answer.cut] if with_body else b""
            hub.requests.append(Request(server, self.command, path, asked, answer.status, len(body)))
            self.send_response(answer.status)
            length = len(answer.body) if answer.length == -1 else answer.length
            announced = {} if length is None else {"Content-Length": str(length)}
            for name, value in {**answer.headers, **announced}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client has gone
                for start in range(0, len(body), PIECE):
                    self.wfile.write(body[start : start + PIECE])
                if answer.until is not None:
                    answer.until.wait()

    return Handler


def _from_hub(hub: Hub, parts: list[str], asked: dict[str, str]) -> Answer:
    """The hub's own answers: about repositories, and where their files are."""
    if len(parts) < 4:
        return Answer(404)
    if parts[:1] == ["api"] and parts[1] in ("models", "datasets"):
        owner, name, *rest = parts[2:]
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


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
