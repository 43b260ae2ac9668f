"""A server in a thread, on a port of this machine, with handlers of which a test decides what they do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, cast

from asgi import FakeHandlers
from neort.server.app import Settings, listening_socket
from neort.server.app.serving import Serving
from patience import PATIENCE


class Server:
    """A server in a thread, and its handlers."""

    def __init__(self, port: int = 0, handlers: Any = None, **options: Any) -> None:
        settings = Settings(port=port, **options)
        self.handlers: Any = FakeHandlers() if handlers is None else handlers
        bound = listening_socket(settings)
        self.port = bound.getsockname()[1]
        self._ready = threading.Event()
        self._serving = Serving(settings, cast(Any, self.handlers), bound, lambda _: self._ready.set())
        self._thread = threading.Thread(target=self._run)
        self.status: int | None = None

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.join()
        assert getattr(self.handlers, "closed", True)

    def stop(self) -> None:
        """Let the server begin its end."""
        self._serving.stop()

    def join(self) -> int | None:
        """Wait for the server's end. Returns its exit status."""
        self._thread.join(PATIENCE)
        return self.status

    def _run(self) -> None:
        self.status = asyncio.run(self._serving.run())

    def client(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def talk(self, *parts: bytes) -> bytes:
        """Send, and read until the server closes."""
        with self.client() as client:
            for part in parts:
                client.sendall(part)
            return read_all(client)


def read_all(client: socket.socket) -> bytes:
    found = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            found += part
    return bytes(found)


def read_answer(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """An answer with a length, from a connection that stays."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += client.recv(1)
    status, fields = head_of(found)
    body = b""
    while len(body) < int(fields.get("content-length", 0)):
        body += client.recv(int(fields["content-length"]) - len(body))
    return status, fields, body


def head_of(answer: bytes) -> tuple[int, dict[str, str]]:
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), fields


def error_of(answer: bytes) -> tuple[int, str]:
    """Status and message of an answer, which is an error in OpenAI's form, and the last of its connection."""
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    return head_of(answer)[0], body["error"]["message"]


def until(true: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)
