"""One process of a server: it serves the connections that its parent hands it, and is as good as any other.

What only one process knows, the figures and which prefixes are held, goes through the parent: `/metrics` answers for
all, and a prefix that one worker has loaded all have loaded when the client reads the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...errors import NeortError
from ...workers import Parent, in_words, taken_over
from ..app.metrics import Metrics
from ..app.serving import Serving, request_log
from ..app.settings import Settings
from ..app.transport import allowed_connections
from ..handlers import Answer, Call, Handlers
from ..protocol import RequestError
from .messages import ANSWER, ASK, CLOSING, CONNECTION, FAILED, FIGURES, GO, HELD, PREFIXES, READY, STOP, Questions

__all__ = ["Job", "Source", "work"]

FIGURES_SECONDS, PREFIXES_SECONDS = 10.0, 60.0
BUSY = RequestError(503, "the figures of all processes did not come in time; ask again later")


class Source(Protocol):
    """Where handlers come from; it is sent to each worker."""

    def handlers(self, threads: int, folder: Path | None) -> Handlers:
        """Load models for so many threads, with packed weights in a folder of `workers.temporary_folder`."""


@dataclass(frozen=True)
class Job:
    """What all workers do. ``settings`` are those of one of them; ``folder`` is for packed weights, see `Source`.

    ``local`` says that the server listens on loopback.
    """

    settings: Settings
    source: Source
    folder: Path | None = None
    local: bool = True


def work(parent: Parent, job: Job, threads: int) -> None:
    """Load once the parent says so, and serve until it says that the end has come, or an engine fails."""
    worker = _Worker(parent, job)
    parent.listen(worker.receive)
    worker.go.wait()
    try:
        handlers = job.source.handlers(threads, job.folder)
    except Exception as error:
        parent.tell(FAILED, *in_words(error))
        raise SystemExit(1) from None
    with request_log():
        raise SystemExit(asyncio.run(worker.run(handlers)))


class _Worker:
    """A server in an event loop, and what its parent says to it.

    Attributes:
        go: set once it may load.
    """

    def __init__(self, parent: Parent, job: Job) -> None:
        self.go = threading.Event()
        self._parent, self._job = parent, job
        self._questions = Questions(parent.tell)
        self._taken = 0  # connections
        self._arriving = 0  # those of them that are not open yet
        self._tells = False  # whether the parent is about to be told what is held
        self._over = False  # whether the serving has ended

    def receive(self, message: tuple[Any, ...]) -> None:
        """Take a message, in the thread that reads them. Beside the first one all come once the loop runs."""
        kind, *values = message
        if kind == CONNECTION:
            values = [taken_over(self._parent.pipe)]
        if kind == GO:
            self.go.set()
        else:
            try:
                self._loop.call_soon_threadsafe(self._take, kind, *values)
            except RuntimeError:  # the loop is closed: what it has not taken goes to another worker
                for each in values:
                    if isinstance(each, socket.socket):
                        each.close()

    async def run(self, handlers: Handlers) -> int:
        """Serve. Returns the exit status."""
        self._loop = asyncio.get_running_loop()
        self._handlers = handlers
        settings, job = self._job.settings, self._job
        settings = dataclasses.replace(settings, max_connections=allowed_connections(settings.max_connections))
        announcing: Any = _Announcing(handlers, self._questions)
        self._serving = Serving(
            settings, announcing, None, lambda _: self._parent.tell(READY), local=job.local, figures=self._figures
        )
        self._serving.connections.changed = self._note
        closing = asyncio.create_task(self._tell_closing())
        try:
            return await self._serving.run()
        finally:
            self._over = True
            closing.cancel()

    def _take(self, kind: str, *values: Any) -> None:
        if kind == CONNECTION:
            self._soon(self._serve(*values))
        elif kind == STOP:
            self._serving.stop()
        elif kind == ANSWER:
            self._questions.take(*values)
        elif kind == ASK:
            self._soon(self._answer(*values))

    def _soon(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        _kept.add(task)
        task.add_done_callback(_kept.discard)

    async def _serve(self, connection: socket.socket | None) -> None:
        if self._over:  # untaken, so that another worker gets it
            if connection is not None:
                connection.close()
            return
        self._taken += 1
        self._arriving += connection is not None
        self._note()
        if connection is not None:
            try:
                await self._serving.take(connection)
            finally:
                self._arriving -= 1
                self._note()

    async def _answer(self, number: int, what: str, value: Any) -> None:
        if what == FIGURES:
            observer = self._handlers.observer
            self._parent.tell(ANSWER, number, observer.families() if isinstance(observer, Metrics) else [])
            return
        told = ""
        try:
            await self._handlers.prefixes(value, Call("worker", time.perf_counter()))
        except (NeortError, RequestError) as error:
            told = str(error)
        self._parent.tell(ANSWER, number, told)

    async def _figures(self) -> bytes:
        try:
            figures: bytes = await self._questions.ask(FIGURES, None, FIGURES_SECONDS)
        except TimeoutError:
            raise BUSY from None
        return figures

    async def _tell_closing(self) -> None:
        await self._serving.ending.wait()
        self._parent.tell(CLOSING)

    def _note(self) -> None:
        """Tell the parent soon what is held: once for all that changes by then."""
        if not self._tells:
            self._tells = True
            self._loop.call_soon(self._tell_held)

    def _tell_held(self) -> None:
        self._tells = False
        connections = self._serving.connections
        self._parent.tell(
            HELD, self._taken, len(connections.open) + self._arriving, connections.at_work + self._arriving
        )


_kept: set[asyncio.Task[None]] = set()  # else nobody holds a task


class _Announcing:
    """Handlers that have other workers hold the same prefixes."""

    def __init__(self, handlers: Handlers, questions: Questions) -> None:
        self._handlers, self._questions = handlers, questions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handlers, name)

    async def prefixes(self, payload: object, call: Call) -> Answer:
        """POST /v1/prefixes."""
        answer = await self._handlers.prefixes(payload, call)
        if answer.body["action"] != "save":
            with contextlib.suppress(TimeoutError):
                await self._questions.ask(PREFIXES, (answer.body, payload), PREFIXES_SECONDS)
        return answer
