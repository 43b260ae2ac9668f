"""A client of OpenAI's completions on asyncio alone: one connection a request, and the time of every event.

Knows nothing about what is asked; it can also leave in the middle of an answer, and send what is no request.
Imports nothing beyond Python's own library.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Address", "Asked", "Exchange", "ask", "exchange"]

READ = 1 << 16
DONE = b"[DONE]"


@dataclass(frozen=True)
class Asked:
    """What is sent.

    ``body`` is JSON, or bytes that go as they are. After ``leave_after`` events the client closes the connection.
    """

    body: dict[str, Any] | bytes | None = None
    method: str = "POST"
    path: str = "/v1/completions"
    headers: dict[str, str] = field(default_factory=dict)
    leave_after: int | None = None
    expected_status: int = 200
    name: str = ""


@dataclass
class Exchange:
    """What came back, with times of `time.perf_counter`.

    ``times`` are those of events that bring a token, ``texts`` the text of each choice, ``failure`` why there is no
    whole answer; a client that left by itself has none.
    """

    asked: Asked
    began: float
    ended: float = 0.0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    times: list[float] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=lambda: defaultdict(str))
    finish_reasons: dict[int, str] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    left: bool = False
    failure: str | None = None

    @property
    def as_expected(self) -> bool:
        """Whether the status is the expected one and nothing broke off."""
        return self.status == self.asked.expected_status and self.failure is None


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        """The address in a URL like http://127.0.0.1:8000."""
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 80)


async def exchange(address: Address, asked: Asked, timeout: float = 600.0) -> Exchange:
    """Send a request and take its answer. Never raises for what the server does: see `Exchange.failure`."""
    found = Exchange(asked, time.perf_counter())
    try:
        async with asyncio.timeout(timeout):
            await _exchange(address, asked, found)
    except (OSError, EOFError, ValueError, TimeoutError) as error:
        found.failure = f"{type(error).__name__}: {error}"[:200]
    found.ended = time.perf_counter()
    return found


async def ask(address: Address, path: str, body: dict[str, Any] | None = None) -> Exchange:
    """One request that is not part of a load: a GET, or with ``body`` a POST."""
    return await exchange(address, Asked(body, "GET" if body is None else "POST", path))


async def _exchange(address: Address, asked: Asked, found: Exchange) -> None:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(encoded(address, asked))
        await writer.drain()
        found.status, found.headers = await _head(reader)
        pieces = _pieces(reader, found.headers)
        if found.headers.get("content-type", "").startswith("text/event-stream"):
            await _take_events(pieces, found)
        else:
            found.body = b"".join([piece async for piece in pieces])
            _take_body(found)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def encoded(address: Address, asked: Asked) -> bytes:
    """The request as bytes."""
    body = asked.body or b""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    headers = {"Host": f"{address.host}:{address.port}", "Connection": "close"}
    if asked.body is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{asked.method} {asked.path} HTTP/1.1", *(f"{k}: {v}" for k, v in (headers | asked.headers).items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in head[1:] if line)
    return int(head[0].split(" ", 2)[1]), {name.strip().lower(): value.strip() for name, _, value in fields}


async def _pieces(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """The body as it comes. Raises EOFError where it ends before its end."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    elif "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
    else:
        while piece := await reader.read(READ):
            yield piece


async def _take_events(pieces: AsyncIterator[bytes], found: Exchange) -> None:
    """Read server-sent events to `[DONE]`, or until the client leaves."""
    kept, done = b"", False
    async for piece in pieces:
        *lines, kept = (kept + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            done = data == DONE
            if not done:
                _take_event(json.loads(data), found)
            if found.asked.leave_after is not None and len(found.times) >= found.asked.leave_after:
                found.left = True
                return
    if not done and found.failure is None:
        raise EOFError(f"the events ended after {len(found.times)} tokens without [DONE]")


def _take_event(event: dict[str, Any], found: Exchange) -> None:
    if "error" in event:
        found.failure = str(event["error"])[:200]
        return
    found.usage = event.get("usage") or found.usage
    choices = event.get("choices") or ()
    if any(choice.get("text") or not choice.get("finish_reason") for choice in choices):
        found.times.append(time.perf_counter())
    for choice in choices:
        _take_choice(choice, found)


def _take_choice(choice: dict[str, Any], found: Exchange) -> None:
    index = choice.get("index", 0)
    found.texts[index] += choice.get("text") or ""
    if choice.get("finish_reason"):
        found.finish_reasons[index] = choice["finish_reason"]


def _take_body(found: Exchange) -> None:
    """Take the choices of an answer that is JSON."""
    if not found.headers.get("content-type", "").startswith("application/json"):
        return
    body = json.loads(found.body)
    if isinstance(body, dict) and found.status == 200:
        found.usage = body.get("usage")
        for choice in body.get("choices") or ():
            _take_choice(choice, found)
