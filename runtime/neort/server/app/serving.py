"""A server from its first request to its orderly end.

The first signal lets running requests come to their end while further ones are refused; a second one ends the process.
An engine that fails ends it, too: nothing that it serves afterwards could be relied on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import uvicorn

from ..handlers import Handlers, Limits, ServedModel, failure_of
from ..protocol import RequestError
from .access.guard import LOG
from .application import create_app
from .in_flight import InFlight
from .metrics import Metrics
from .settings import Settings
from .transport import (
    Connection,
    Connections,
    address_in_words,
    allowed_connections,
    is_local,
    listening_socket,
    removed_at_end,
)

__all__ = ["DONE", "FAILED", "LAST_WORDS", "Serving", "ending_signals", "request_log", "serve"]

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
HEARTBEAT = 0.5  # seconds after which it is seen that an engine has failed
LAST_WORDS = 5  # seconds for the last bytes to go out
DONE, FAILED = 0, 1
ENDED = RequestError(503, "the server ends and the request took too long to come to its end; ask again later")


def serve(
    settings: Settings,
    models: Sequence[ServedModel],
    limits: Limits | None = None,
    *,
    listening: socket.socket | None = None,
    ready: Callable[[str], object] = lambda address: None,
) -> int:
    """Serve models until a signal comes. Returns the exit status: 1 where an engine has failed, else 0.

    ``listening`` is a socket of `listening_socket`, bound before the models were loaded. ``ready`` is called with the
    address once connections are taken.

    Raises what `listening_socket` does.
    """
    bound = listening_socket(settings) if listening is None else listening
    settings = dataclasses.replace(settings, max_connections=allowed_connections(settings.max_connections))
    with request_log():
        return asyncio.run(Serving(settings, Handlers(models, limits, Metrics(models)), bound, ready).run())


class Serving:
    """A server in an event loop, for connections that it accepts or is handed.

    Attributes:
        connections: those that are open.
        ending: set once the end has begun.
    """

    def __init__(
        self,
        settings: Settings,
        handlers: Handlers,
        bound: socket.socket | None,
        ready: Callable[[str], object],
        *,
        local: bool | None = None,
        figures: Callable[[], Awaitable[bytes]] | None = None,
    ) -> None:
        """``bound`` is a socket of `listening_socket`, which the server closes; ``ready`` is called as `serve` says.

        Without ``bound`` connections come by `take`, and ``local`` says whether they are all of this machine.
        ``figures`` are what `/metrics` answers with, where it is more than this process knows.
        """
        self._settings, self._handlers, self._bound = settings, handlers, bound
        self._local = is_local(bound) if local is None and bound is not None else bool(local)
        self._figures = figures
        self._running = InFlight()
        self.connections = Connections(settings)
        self.ending = asyncio.Event()
        self._status = DONE
        address = "" if bound is None else address_in_words(bound)
        self._server = _Server(self._config(), lambda: ready(address))

    async def run(self) -> int:
        """Serve until `stop`, a signal, or an engine's failure. Returns the exit status."""
        self._loop = asyncio.get_running_loop()
        beside = [asyncio.create_task(self._watch()), asyncio.create_task(self._drain())]
        try:
            if self._bound is None:
                await self._server.serve(sockets=[])
            else:
                with ending_signals(self.stop), removed_at_end(self._bound):
                    await self._server.serve(sockets=[self._bound])
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            await self._handlers.close()
            if self._bound is not None:
                self._bound.close()
        return self._status

    async def take(self, connection: socket.socket) -> None:
        """Serve a connection that another process has accepted."""
        await self._loop.connect_accepted_socket(self._server.connection, connection)

    def stop(self) -> None:
        """Begin the end, if it has not begun; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the end was reached
            self._loop.call_soon_threadsafe(self.ending.set)

    def _config(self) -> uvicorn.Config:
        settings = self._settings
        return uvicorn.Config(
            create_app(self._handlers, settings, running=self._running, local=self._local, figures=self._figures),
            http=functools.partial(Connection, self.connections),  # type: ignore[arg-type]  # what it makes them by
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]  # of which fractions count, too
            timeout_graceful_shutdown=LAST_WORDS,
            h11_max_incomplete_event_size=settings.max_head_bytes,
        )

    async def _drain(self) -> None:
        """Once the end has begun, wait for running requests as long as they may take, then end them."""
        await self.ending.wait()
        self._running.draining = True
        LOG.info("ending; requests that run: %d", len(self._running))
        try:
            async with asyncio.timeout(self._settings.shutdown_timeout):
                await self._running.emptied()
        except TimeoutError:
            LOG.info("ending; requests that are broken off: %d", len(self._running))
            self._running.end_all(ENDED)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await self._running.emptied()
        self._server.should_exit = True

    async def _watch(self) -> None:
        """End the server where an engine has failed."""
        while self._running.failed is None:
            await asyncio.sleep(HEARTBEAT)
            self._look_at_engines()

    def _look_at_engines(self) -> None:
        for served in self._handlers.served.values():
            error = failure_of(served)
            if error is not None:
                LOG.error("the model %s has failed: %s: %s", served.name, type(error).__name__, error)
                self._running.failed, self._status = type(error).__name__, FAILED
                self.ending.set()


@contextlib.contextmanager
def ending_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Let the first signal call ``stop``, and the second one end the process, as it does by itself."""
    before: dict[int, Any] = {}

    def begin(*_: object) -> None:
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        stop()

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        ignored = (signal.SIG_IGN, None)
        before |= {number: signal.getsignal(number) for number in numbers}
        before = {number: handler for number, handler in before.items() if handler not in ignored}
        for number in before:
            signal.signal(number, begin)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """uvicorn's, which says when connections are taken, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], object]) -> None:
        super().__init__(config)
        self._started = started

    def connection(self) -> asyncio.Protocol:
        """What a connection is served by."""
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()


@contextlib.contextmanager
def request_log() -> Iterator[None]:
    """Write a line for each request on standard error, unless the program has logging of its own."""
    asyncios = logging.getLogger("asyncio")
    before = asyncios.level
    asyncios.setLevel(logging.ERROR)  # below it says that clients have gone, as they do
    handler = logging.NullHandler() if LOG.hasHandlers() else _lines()
    LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        asyncios.setLevel(before)


def _lines() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    form = logging.Formatter("%(asctime)s.%(msecs)03dZ %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    LOG.setLevel(logging.INFO)
    return handler
