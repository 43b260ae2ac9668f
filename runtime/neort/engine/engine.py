"""A thread that steps for all: callers submit, wait and cancel, and never touch what a step touches.

So an exception that hits a caller from outside, as Ctrl-C does, ends what he waits for and nothing else, and a caller
may be anywhere: in a signal handler, a finalizer, a thread of any kind. What callers and the thread share are queues of
the standard library that are written in C, whose operations happen or do not.

The thread starts with the first request. It ends with the engine, and with the interpreter, once the step that runs
then has ended.

Knows callers; knows nothing about what a step does.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ..arrays import Ids, Logits, Rows
from ..errors import OutOfMemoryError
from ..kvcache import Pin
from .core import EngineCore
from .figures import EngineFigures
from .group import Group
from .reading import Reading, ReadingResult, RowSource
from .scoring import ReadingScores, ScoredReading, logits_of
from .worker import Worker, forget_parents_threads, nothing

__all__ = ["Engine"]

Event = TypeVar("Event")
Result = TypeVar("Result")

HEARTBEAT = 1.0  # seconds after which a caller looks whether the thread that he waits for is alive
STARTS = 3  # heartbeats without a thread after which there will be none
FORKED = (
    "this process was forked while its parent was generating, in the middle of a step; fork while the model is idle, "
    "start workers by spawn, or load the model in each worker"
)
NO_THREAD = "the model's thread cannot run, there is no memory for it; give the process more memory"


class Engine:
    """An `EngineCore` that any number of threads share, each of which waits for its own requests."""

    def __init__(self, core: EngineCore) -> None:
        """``core`` is the engine's alone from now on."""
        self.core = core
        self._employ(Worker(core))
        _engines.add(self)

    @property
    def waiting(self) -> deque[Group]:
        """The requests that wait for a slot or for room in the cache, oldest first."""
        return self.core.waiting

    @property
    def running(self) -> list[Group]:
        """The requests that are being decoded, in the order of their first slots."""
        return self.core.running

    @property
    def figures(self) -> EngineFigures:
        """See `EngineCore.figures`."""
        return self.core.figures

    def check(self, request: Group) -> None:
        """See `EngineCore.check`."""
        self.core.check(request)

    def submit(self, request: Group) -> None:
        """Queue a request; never waits.

        Raises what `EngineCore.check` does, BusyError where too many requests wait already, and EngineError in a
        process that cannot generate: forked in the middle of a step, about to end, or without a thread to spare; or
        from within a step.
        """
        self._worker.check_usable()
        self.core.submit(request)
        self._worker.wake()

    def cancel(self, request: Group) -> None:
        """See `EngineCore.cancel`."""
        self.core.cancel(request)

    def next_event(self, events: SimpleQueue[Event]) -> Event:
        """Wait for what a request's sink puts into ``events``.

        Raises EngineError as `submit` does, OutOfMemoryError where the thread dies again and again as it starts.
        """
        return self._wait(events, nothing)

    def look_after(self) -> None:
        """See to it that the thread lives: for who waits for events elsewhere than in `next_event`, once in a while.

        Raises EngineError as `submit` does.
        """
        self._worker.check_usable()
        self._worker.wake()

    def logits(self, token_ids: Ids) -> Logits:
        """See `EngineCore.logits`; raises EngineError, too, as `submit` does."""
        logits: Logits = self._ask(lambda wanted: self.core.logits(token_ids, wanted))
        return logits

    def read(self, readings: Sequence[Reading[Result]], source: RowSource) -> list[ReadingResult[Result]]:
        """What is made of each of some readings, in their order; they are read in batches, the longest first.

        Between two batches running sequences take a step. Where these take all slots or the cache, reading waits for
        one of them to end. A reading gets the same bits in any list, and whatever else runs.

        Raises PromptError as `EngineCore.check_reading` does, before anything is read; what reductions raise; and
        EngineError as `submit` does.
        """
        for reading in readings:
            self.core.check_reading(reading)
        order = sorted(range(len(readings)), key=lambda i: (-len(readings[i].token_ids), readings[i].first))
        most = self.core.runner.max_batch_size
        results: dict[int, ReadingResult[Result]] = {}
        try:
            while len(results) < len(order):
                places = order[len(results) : len(results) + most]
                read = functools.partial(self.core.read, [readings[i] for i in places], source)
                results |= zip(places, self._ask(read), strict=False)
        finally:
            if results:
                self.settle()  # gives the slots' memory back
        return [results[i] for i in range(len(readings))]

    def score(self, readings: Sequence[ScoredReading]) -> list[ReadingScores]:
        """The scores of each of some readings; see `read`. Raises LogitsError when the model yields NaN."""
        return self.read(readings, logits_of(self.core.runner))

    def pin(self, pin: Pin, token_ids: Ids, read: Callable[[int, int], Rows], logits: Logits) -> None:
        """Put a prefix into the prefix cache whose rows and logits are known; see `PrefixCache.add`.

        Raises EngineError as `submit` does.
        """
        if prefixes := self.core.prefixes:
            self._ask(lambda wanted: prefixes.add(token_ids, read, logits, pin))

    def release(self, pin: Pin) -> None:
        """Unpin a prefix; never waits."""
        if self.core.prefixes:
            self._worker.order(functools.partial(self.core.prefixes.release, pin))

    def settle(self) -> None:
        """Wait until what was cancelled or released before has been freed."""
        self._ask(lambda wanted: self.core.settle())

    def close(self) -> None:
        """Let the step that runs end, and the thread with it. Whoever waits for a request gets an EngineError."""
        self._worker.close()

    def renew(self) -> None:
        """Go on in a forked child, which has the memory of the thread, and not the thread."""
        self._finalizer.detach()
        self._employ(Worker(self.core, unusable=FORKED if self._worker.active else None))

    def _employ(self, worker: Worker) -> None:
        """Let a worker serve until the engine is dropped."""
        self._worker = worker
        self._finalizer = weakref.finalize(self, worker.stop)
        self._finalizer.atexit = False  # the worker ends by itself then

    def _ask(self, function: Callable[[Callable[[], bool]], Any]) -> Any:
        """Have the thread call a function between two steps; returns or raises what it does."""
        self._worker.check_usable()
        question = _Question(function)
        self._worker.order(question.answer)
        self._worker.wake()
        try:
            return self._wait(question.answers, question.answer)()
        finally:
            question.wanted = False

    def _wait(self, events: SimpleQueue[Event], order: Callable[[], object]) -> Event:
        """Return the next of ``events``; a thread that died is replaced, and given the ``order`` that it lost."""
        starts = 0
        while True:
            try:
                return events.get(timeout=HEARTBEAT)
            except Empty:
                self._worker.check_usable()
            starts = 0 if self._worker.serves else starts + 1
            if starts > STARTS:
                raise OutOfMemoryError(NO_THREAD)
            self._worker.order(order)
            self._worker.wake()


class _Question:
    """What a caller wants to know, and the queue in which he finds a function that returns or raises the answer."""

    def __init__(self, function: Callable[[Callable[[], bool]], Any]) -> None:
        self.answers: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self.wanted = True
        self._function = function
        self._answered = False

    def answer(self) -> None:
        """Answer; once, however often the question is asked."""
        if self._answered:
            return
        try:
            value = self._function(lambda: self.wanted)
        except BaseException as error:
            self.answers.put(_raising(error))
        else:
            self.answers.put(lambda: value)
        self._answered = True  # last: what is lost before is asked again


def _raising(error: BaseException) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _renew_all() -> None:
    forget_parents_threads()
    for engine in list(_engines):
        engine.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
