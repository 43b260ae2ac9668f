"""Asks an ASGI application without a socket, and handlers of which a test decides what they do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from neort.engine import EngineFigures
from neort.server.handlers import Answer, Call, Events, Silent
from neort.server.protocol import RequestError

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


@dataclass
class Asked:
    """One request, while it is answered and afterwards."""

    messages: list[Message] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def fields(self) -> dict[str, str]:
        return {key.decode(): value.decode() for key, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found

    @property
    def events(self) -> list[Any]:
        """What the server-sent events hold."""
        lines = self.body.decode().split("\n\n")
        assert lines.pop() == ""
        assert all(line.startswith("data: ") for line in lines)
        found = [line.removeprefix("data: ") for line in lines]
        return [each if each == "[DONE]" else json.loads(each) for each in found]

    @property
    def whole(self) -> bool:
        return bool(self.messages) and not self.messages[-1].get("more_body", False) and len(self.messages) > 1

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        self.came.set()

    async def until(self, count: int) -> None:
        """Wait until so many messages have come."""
        while len(self.messages) < count:
            self.came.clear()
            await self.came.wait()


async def ask(
    app: Application,
    method: str,
    path: str,
    body: bytes | object = b"",
    fields: Mapping[str, str] | None = None,
    *,
    parts: list[bytes] | None = None,
    asked: Asked | None = None,
    **scope: Any,
) -> Asked:
    """Ask once. What is no bytes is sent as JSON; ``parts`` are a body that comes in pieces, and may never end."""
    asked = Asked() if asked is None else asked
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"host": "localhost:8000", **({"content-type": "application/json"} if method == "POST" else {})}
    given |= dict(fields or {})
    pieces = [content] if parts is None else list(parts)
    last = parts is None

    async def receive() -> Message:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces) or not last}
        await asked.gone.wait()
        return {"type": "http.disconnect"}

    path, _, query = path.partition("?")
    head = [(key.encode(), value.encode("latin-1")) for key, value in given.items()]
    about = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode()}
    await app(
        {**about, "headers": head, "client": ("127.0.0.1", 5), "http_version": "1.1", **scope}, receive, asked.send
    )
    return asked


NOTHING = EngineFigures(0, 0, 0, 0, None, 0, 0, 0, 0, 0, 0, None)


class FakeModel:
    """Figures of an engine, which a test changes."""

    def __init__(self) -> None:
        self.engine_figures = NOTHING


class FakeHandlers:
    """Handlers that do what a test sets; without, they say what they were asked."""

    def __init__(self, *names: str) -> None:
        self.models_ = [SimpleNamespace(name=name, model=FakeModel()) for name in names or ("fake",)]
        self.served = {each.name: each for each in self.models_}
        self.observer: Any = Silent()
        self.calls: list[Call] = []
        self.work: Callable[[Any], Awaitable[Answer | Events]] | None = None
        self.running = 0
        self.closed = False

    async def _do(self, payload: object, call: Call) -> Answer | Events:
        self.calls.append(call)
        if self.work is None:
            return Answer({"asked": payload})
        self.running += 1
        try:
            return await self.work(payload)
        finally:
            self.running -= 1

    completions = chat_completions = embeddings = prefixes = tokenize = detokenize = tokenizer_info = _do
    models = model = _do

    def openapi(self) -> dict[str, Any]:
        return {"openapi": "3.1.0"}

    async def close(self) -> None:
        self.closed = True


async def for_ever(_: object) -> Answer:
    """Never give an answer."""
    await asyncio.Event().wait()
    raise AssertionError


@dataclass
class Stream:
    """Chunks, and then what a test decides: an error, or that nothing more comes."""

    chunks: list[dict[str, Any]]
    error: BaseException | None = None
    endless: bool = False
    closed: bool = False

    async def __call__(self, _: object) -> Events:
        return Events(self._take())

    async def _take(self) -> AsyncGenerator[dict[str, Any], None]:
        try:
            for chunk in self.chunks:
                yield chunk
            if self.error is not None:
                raise self.error
            if self.endless:
                await asyncio.Event().wait()
        finally:
            self.closed = True


def refused(status: int, message: str = "no", **named: Any) -> RequestError:
    """An error that a handler raises."""
    return RequestError(status, message, **named)
