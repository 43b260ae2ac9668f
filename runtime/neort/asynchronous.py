"""Streams for asyncio: pieces go from the engine's thread straight to the event loop that waits for them.

Knows requests and event loops; knows nothing about models. `import neort` does not load it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from .engine import Collecting, Collector, Completion, Engine, Piece
from .errors import EngineError

__all__ = ["AsyncStream", "completed"]

HEARTBEAT = 1.0  # seconds after which a waiting task looks whether the engine's thread is alive


class AsyncStream:
    """Pieces of one sequence, as `async for` takes them; made by `Model.astream`.

    Whatever ends the loop over it ends the sequence: its last piece, `break`, an exception, the task's cancellation,
    `aclose`, or that nothing refers to the stream any more. The step that runs then is the last one to know of it.

    One task reads a stream, in the event loop in which it first did. What is not read yet is kept, one piece per token
    at most; the model does not wait for a slow reader.
    """

    def __init__(self, engine: Engine, collector: Collector) -> None:
        """``collector`` has a request that is not submitted yet. Raises what `Engine.check` does."""
        self._engine, self._collector = engine, collector
        self._events: _Events | None = None
        self._ended = False
        engine.check(collector.request)

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Piece:
        if self._ended:
            raise StopAsyncIteration
        if self._events is None:
            self._events = _Events(self._engine, self._collector)
            self._engine.submit(self._collector.request)
        try:
            piece = await self._events.get()
        except BaseException:
            self._end()
            raise
        if piece is not None:
            return piece
        closed, self._ended = self._ended, True
        if not closed:
            self._collector.completion()  # raises the error, if there was one
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the sequence; who waits for its next piece finds that there is none."""
        self._end()
        if self._events is not None:
            self._events.arrive(None)

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._engine.cancel(self._collector.request)

    def _end(self) -> None:
        self._ended = True
        self._engine.cancel(self._collector.request)


async def completed(engine: Engine, collector: Collecting) -> Completion:
    """Take a request from its first step to its last, to the best of its results; a cancelled task ends it.

    Raises what `Model.generate` does.
    """
    engine.check(collector.request)
    events = _Events(engine, collector)
    engine.submit(collector.request)
    try:
        while await events.get() is not None:
            pass
    finally:
        engine.cancel(collector.request)
    return collector.completions()[0]


class _Events:
    """What a collector hands out, on its way to the running event loop; it needs no thread of its own."""

    def __init__(self, engine: Engine, collector: Collecting) -> None:
        """Raises RuntimeError where no event loop runs."""
        self._loop = asyncio.get_running_loop()
        self._engine, self._request = engine, collector.request
        self._arrived: deque[Piece | None] = deque()
        self._waiter: asyncio.Future[None] | None = None
        collector.redirect(self._put)

    async def get(self) -> Piece | None:
        """Wait for the next one.

        Raises EngineError where another task waits for it already, and as `Engine.next_event` does.
        """
        if self._waiter is not None:
            raise EngineError("two tasks read one stream; make a stream for each, or hand its pieces on")
        while not self._arrived:
            self._waiter = self._loop.create_future()
            heartbeat = self._loop.call_later(HEARTBEAT, self._wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                heartbeat.cancel()
            if not self._arrived:
                self._engine.look_after()
        return self._arrived.popleft()

    def arrive(self, event: Piece | None) -> None:
        """Take one in the event loop's own thread."""
        self._arrived.append(event)
        self._wake()

    def _put(self, event: Piece | None) -> None:
        """Take one in the engine's thread; where the event loop is closed, nobody waits for the sequence any more."""
        try:
            self._loop.call_soon_threadsafe(self.arrive, event)
        except RuntimeError:
            self._engine.cancel(self._request)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
