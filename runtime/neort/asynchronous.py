"""Streams for asyncio: pieces go from the engine's thread straight to the event loop that waits for them.

Knows requests and event loops; knows nothing about models. `import neort` does not load it.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType

from .engine import Collecting, Collector, Completion, Engine, Piece
from .errors import EngineError

__all__ = ["AsyncStream", "AsyncStreams", "completed"]

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
            self._events = _Events(self._engine, [self._collector])
            self._engine.submit(self._collector.request)
        try:
            _, piece = await self._events.get()
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
            self._events.arrive(0, None)

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


class AsyncStreams:
    """Pieces of several sequences, each with the sequence's number; made by `Model.astreams`.

    All sequences are submitted as the first piece is asked for. Whatever ends the loop ends them all, as `AsyncStream`
    has it; one that fails ends the others. One task reads, in the event loop in which it first did.

    Attributes:
        collectors: what collects each sequence.
    """

    def __init__(self, engine: Engine, collectors: Sequence[Collector]) -> None:
        """``collectors`` have requests that are checked and not submitted yet."""
        self._engine, self.collectors = engine, collectors
        self._events: _Events | None = None
        self._running = len(collectors)

    def __aiter__(self) -> AsyncStreams:
        return self

    async def __anext__(self) -> tuple[int, Piece]:
        return await self.next()

    async def next(self, deadline: float | None = None) -> tuple[int, Piece]:
        """The next piece of any sequence, and the number of this.

        Raises StopAsyncIteration at the end of all, the error that ended one of them, and TimeoutError where
        ``deadline`` has passed, by `time.perf_counter`.
        """
        try:
            events = self._submitted()
            while self._running:
                number, piece = await events.get(deadline)
                if piece is not None:
                    return number, piece
                self._running -= 1
                self.collectors[number].completion()  # raises the error, if there was one
        except BaseException:
            self.cancel()
            raise
        raise StopAsyncIteration

    def completions(self) -> list[Completion]:
        """The results of all sequences, once all have ended. Raises the error of the first one that failed."""
        return [collector.completion() for collector in self.collectors]

    def cancel(self) -> None:
        """End all sequences. Never waits; a second time does nothing."""
        self._running = 0
        for collector in self.collectors:
            self._engine.cancel(collector.request)

    async def aclose(self) -> None:
        """As `cancel`."""
        self.cancel()

    def __del__(self) -> None:
        self.cancel()

    def _submitted(self) -> _Events:
        if self._events is None:
            self._events = _Events(self._engine, self.collectors)
            for collector in self.collectors:
                self._engine.submit(collector.request)
        return self._events


async def completed(engine: Engine, collector: Collecting) -> Completion:
    """Take a request from its first step to its last, to the best of its results; a cancelled task ends it.

    Raises what `Model.generate` does.
    """
    engine.check(collector.request)
    events = _Events(engine, [collector])
    engine.submit(collector.request)
    try:
        while (await events.get())[1] is not None:
            pass
    finally:
        engine.cancel(collector.request)
    return collector.completions()[0]


class _Events:
    """What collectors hand out, on its way to the running event loop; it needs no thread of its own."""

    def __init__(self, engine: Engine, collectors: Sequence[Collecting]) -> None:
        """Raises RuntimeError where no event loop runs."""
        self._loop = asyncio.get_running_loop()
        self._engine, self._requests = engine, [collector.request for collector in collectors]
        self._arrived: deque[tuple[int, Piece | None]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        for number, collector in enumerate(collectors):
            collector.redirect(functools.partial(self._put, number))

    async def get(self, deadline: float | None = None) -> tuple[int, Piece | None]:
        """Wait for the next one, and say which collector's it is.

        Raises EngineError where another task waits for it already, and as `Engine.next_event` does; TimeoutError once
        ``deadline`` has passed, by `time.perf_counter`.
        """
        if self._waiter is not None:
            raise EngineError("two tasks read one stream; make a stream for each, or hand its pieces on")
        while not self._arrived:
            left = HEARTBEAT if deadline is None else deadline - time.perf_counter()
            if left <= 0:
                raise TimeoutError
            self._waiter = self._loop.create_future()
            heartbeat = self._loop.call_later(min(left, HEARTBEAT), self._wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                heartbeat.cancel()
            if not self._arrived:
                self._engine.look_after()
        return self._arrived.popleft()

    def arrive(self, number: int, event: Piece | None) -> None:
        """Take one in the event loop's own thread."""
        self._arrived.append((number, event))
        self._wake()

    def _put(self, number: int, event: Piece | None) -> None:
        """Take one in the engine's thread; where the event loop is closed, nobody waits for the sequence any more."""
        try:
            self._loop.call_soon_threadsafe(self.arrive, number, event)
        except RuntimeError:
            self._engine.cancel(self._requests[number])

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
