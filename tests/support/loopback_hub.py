"""A small Hugging Face hub on loopback: as much of it as the hub's client asks for, with faults on demand.

Large files lie on a second server, as the real hub's do, to which the first one redirects; a third one hands out a
folder's files as they are. Every request is noted with its answer.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from hub_answers import ANSWERS, Answer, Repository

__all__ = ["Answer", "Hub", "Repository", "Request", "running_hub"]

PIECE = 1 << 16


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
        self.pace = 0.0
        """Seconds between two pieces of a body."""
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
                    if hub.pace:
                        hub.closing.wait(hub.pace)
                while answer.until is not None and not hub.closing.is_set() and not answer.until.wait(0.05):
                    pass

    return Handler
