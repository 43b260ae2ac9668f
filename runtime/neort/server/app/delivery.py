"""What a handler gives, on its way to the client: a JSON document, or server-sent events.

A client that goes away, a request that takes too long, and a server that ends all end the handler at once, and with it
its sequences in the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any

from ..handlers import Answer, Events
from ..protocol import CLIENT_GONE, RequestError, as_request_error, error_body
from .bodies import ClientGoneError, Receive

__all__ = ["Reply", "Send", "deliver"]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
DONE = b"data: [DONE]\n\n"
TOO_SLOW = "the request was not done in the time that the server gives it; ask for fewer tokens, or again later"
EVENT_FIELDS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx, too, hands on each event as it comes
}


class Reply:
    """The answer to one request, as far as it has gone out.

    Attributes:
        status: of the answer; CLIENT_GONE where the client went away before there was one.
        tokens: that the answer says it has, or the events that it is made of; None where it is of neither kind.
        error: what has ended the answer once it had begun, or the client's absence.
    """

    def __init__(self, send: Send, fields: Mapping[str, str]) -> None:
        """``fields`` stand in the head of every answer."""
        self.status = CLIENT_GONE
        self.tokens: int | None = None
        self.error: BaseException | None = None
        self.begun = self._streams = False
        self._send, self._fields = send, dict(fields)

    async def document(
        self, body: Mapping[str, Any], status: int = 200, fields: Mapping[str, str] | None = None
    ) -> None:
        """Send a JSON document."""
        usage = body.get("usage")
        if isinstance(usage, Mapping):
            self.tokens = int(usage.get("completion_tokens") or 0)
        await self.content(_json(body), "application/json", status, fields)

    async def content(
        self, content: bytes, media_type: str, status: int = 200, fields: Mapping[str, str] | None = None
    ) -> None:
        """Send any content, whole."""
        length = str(len(content))
        await self._begin(status, {"content-type": media_type, "content-length": length, **(fields or {})})
        await self._send({"type": "http.response.body", "body": content})

    async def fail(self, error: BaseException) -> None:
        """Send an error: as a document, or as an event where events have begun. A client that has gone gets none."""
        if isinstance(error, ClientGoneError):
            self.error = error
            return
        told = as_request_error(error)
        if not self.begun:
            await self.document(error_body(told), told.status, told.headers)
            return
        self.error = error
        if self._streams:  # else too little of a document has gone out, which its length tells the client
            await self._part(b"data: " + _json(error_body(told)) + b"\n\n" + DONE, more=False)

    async def events(self, events: Events) -> None:
        """Send events as they come. Raises what the first one raises, for which there is a status yet."""
        async with contextlib.aclosing(events.chunks) as chunks:
            first = await anext(chunks, None)
            await self._begin(200, EVENT_FIELDS)
            self._streams, self.tokens = True, 0
            if first is not None:
                await self._event(first)
            async for chunk in chunks:
                await self._event(chunk)
        await self._part(DONE, more=False)

    async def _event(self, chunk: Mapping[str, Any]) -> None:
        assert self.tokens is not None
        usage = chunk.get("usage")
        if isinstance(usage, Mapping) and not chunk.get("choices"):
            self.tokens = int(usage.get("completion_tokens") or 0)
        else:
            self.tokens += 1
        await self._part(b"data: " + _json(chunk) + b"\n\n")

    async def _begin(self, status: int, fields: Mapping[str, str]) -> None:
        self.begun, self.status = True, status
        head = self._fields | dict(fields)
        pairs = [(key.lower().encode(), value.encode("latin-1", "replace")) for key, value in head.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def _part(self, content: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": content, "more_body": more})


async def deliver(
    work: Callable[[], Coroutine[Any, Any, Answer | Events]],
    reply: Reply,
    receive: Receive,
    end: asyncio.Future[RequestError],
    until: float | None,
) -> None:
    """Do the work and send what it gives.

    ``end`` is done when the server wants the request to end; ``until``, by `time.perf_counter`, is when it must have.

    Raises what the work raises and what it is ended by; ClientGoneError where the client has gone.
    """
    left = None if until is None else max(until - time.perf_counter(), 0)
    working = asyncio.ensure_future(_work(work, reply))
    gone = asyncio.ensure_future(_gone(receive))
    try:
        either: set[asyncio.Future[Any]] = {working, gone, end}
        await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await _ended(working)
            if gone.done():
                raise ClientGoneError
            raise end.result() if end.done() else RequestError(504, TOO_SLOW)
        working.result()
    finally:
        gone.cancel()
        await _ended(working)


async def _work(work: Callable[[], Coroutine[Any, Any, Answer | Events]], reply: Reply) -> None:
    given = await work()
    if isinstance(given, Events):
        await reply.events(given)
    else:
        await reply.document(given.body, given.status)


async def _ended(task: asyncio.Future[None]) -> None:
    """Cancel a task and see it end, if it has not; what it raises then is of no interest."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # lone surrogates, which JSON can escape
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
