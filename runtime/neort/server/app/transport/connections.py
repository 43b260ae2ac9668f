"""Connections of HTTP/1.1: uvicorn's, by h11, with limits on how long and how many.

uvicorn waits for ever for a request's head, for a reader and for the rest of a body that was refused, and says what it
refuses in plain text. h11 is the parser that is always there beside it, and the one with a limit on a head's size; what
it costs is little beside a step of a model.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...protocol import RequestError, error_body
from ..settings import Settings

__all__ = ["Connection", "Connections", "allowed_connections"]

MALFORMED = (
    "this is no HTTP/1.1 request, or its line and fields have more than {:,} bytes; send a smaller or a sound one"
)
OTHER_FILES = 64
SLOW = "the head of the request was not complete after {:g} s; send it at once"


def allowed_connections(wanted: int) -> int:
    """How many of the wanted connections the system gives the process files for; its limit is raised where it may be.

    Twice as many may be open for a moment, and there are other files.
    """
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < (needed := min(2 * wanted + OTHER_FILES, most)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
            soft = needed
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, (soft - OTHER_FILES) // 2))


class Connections:
    """All connections of a server, and those of them without a request, which give way where there are too many."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.open: set[Connection] = set()
        self.changed: Callable[[], object] = lambda: None  # called where another number may be open or at work
        self._idle: dict[Connection, None] = {}  # the one that is idle for longest comes first
        self._new: set[Connection] = set()  # those of the idle that have not asked yet

    @property
    def at_work(self) -> int:
        """How many have a request, or are likely to have one soon, since they are new."""
        return len(self.open) - len(self._idle) + len(self._new)

    @property
    def excess(self) -> int:
        """How many more there are than may be."""
        return len(self.open) - self.settings.max_connections

    def add(self, connection: Connection) -> None:
        """Count a connection, for which one that is idle gives way where there is no room."""
        if self.excess >= 0 and self._idle:
            next(iter(self._idle)).give_way()
        self.open.add(connection)
        self._idle[connection] = None
        self._new.add(connection)
        self.changed()

    def note(self, connection: Connection, *, idle: bool) -> None:
        """Note whether a connection has a request."""
        if not idle:
            self._idle.pop(connection, None)
            self._new.discard(connection)
        elif connection in self.open:
            self._idle.setdefault(connection)
        self.changed()

    def forget(self, connection: Connection) -> None:
        """A connection is no longer there."""
        self.open.discard(connection)
        self._idle.pop(connection, None)
        self._new.discard(connection)
        self.changed()


class Connection(H11Protocol):
    """One connection. It is idle, then a request's head comes, then its body; an answer goes out; it is idle again."""

    def __init__(self, known: Connections, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._known, self._limits = known, known.settings
        self._reading: asyncio.TimerHandle | None = None  # until which a head, or the rest of a body, must be there
        self._writing: asyncio.TimerHandle | None = None  # until which the client must have read something
        self._admitted = False  # whether there is room for its requests

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._known.add(self)
        self._admitted = self._known.excess <= 0
        if self._known.excess > self._limits.max_connections:
            transport.abort()
        self._wait_for(self._limits.head_timeout, self._end_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._known.forget(self)
        _cancel(self._reading)
        _cancel(self._writing)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        self._admitted = self._admitted or self._known.excess <= 0
        self.app_state = {**self.app_state, "crowded": not self._admitted}  # what a request's scope has as its state
        super().data_received(data)
        self._go_on_reading()
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            if self.conn.their_state is h11.SEND_BODY and not self._has_request:
                self._wait_for(self._limits.head_timeout, self.give_way)
            self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing = self.loop.call_later(self._limits.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._writing)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, in the form of all errors."""
        self._refuse(RequestError(400, MALFORMED.format(self._limits.max_head_bytes)))

    def give_way(self) -> None:
        """Close without a word, since there is no request."""
        self._known.forget(self)
        self.transport.close()

    @property
    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _go_on_reading(self) -> None:
        """Read on behind a complete request, which uvicorn does not: else nobody sees that its client leaves.

        So until the next request, which has come too early, is a head's length.
        """
        whole = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        if self._has_request and whole and len(self.conn.trailing_data[0]) < self._limits.max_head_bytes:
            self.flow.resume_reading()

    def _look(self) -> None:
        """See whether there is a request, or a head is awaited, of which something has come."""
        if self.transport.is_closing():
            return
        busy = self._has_request
        self._known.note(self, idle=not busy)
        if busy:
            _cancel(self._reading)
            self._reading = None
        elif self._reading is None and self.timeout_keep_alive_task is None:
            self._wait_for(self._limits.head_timeout, self._end_slow)

    def _wait_for(self, seconds: float, end: Callable[[], object]) -> None:
        _cancel(self._reading)
        self._reading = self.loop.call_later(seconds, end)

    def _end_slow(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(RequestError(408, SLOW.format(self._limits.head_timeout)))
        else:
            self.give_way()

    def _refuse(self, error: RequestError) -> None:
        """Answer by an error, where no answer has begun, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(error_body(error)).encode()
            fields = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            events = (h11.Response(status_code=error.status, headers=fields), h11.Data(body), h11.EndOfMessage())
            self.transport.write(b"".join(filter(None, map(self.conn.send, events))))
        if self._has_request:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
