"""A thread that steps for all: callers submit, wait and cancel, and never touch what a step touches.

So an exception that hits a caller from outside, as Ctrl-C does, ends what he waits for and nothing else, and a caller
may be anywhere: in a signal handler, a finalizer, a thread of any kind. What callers and the thread share are queues of
the standard library that are written in C, whose operations happen or do not.

The thread starts with the first request. It ends with the engine, and with the interpreter, once the step that runs
then has ended.

Knows threads; knows nothing about what a step does.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import functools
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ..arrays import Ids, Logits, Rows
from ..errors import EngineError, OutOfMemoryError
from ..kvcache import Pin
from .core import EngineCore
from .request import Request

__all__ = ["Engine"]

Event = TypeVar("Event")

HEARTBEAT = 1.0  # seconds after which a caller looks whether the thread that he waits for is alive
STARTS = 3  # heartbeats without a thread after which there will be none
LEFT = "the interpreter ends, and with it the model's thread; generate before, or in a process of its own"
FORKED = (
    "this process was forked while its parent was generating, in the middle of a step; fork while the model is idle, "
    "start workers by spawn, or load the model in each worker"
)
NO_THREAD = "the model's thread cannot run, there is no memory for it; give the process more memory"
NESTED = (
    "the model was used within its own step, which would wait for itself: by a logits processor, or by a finalizer "
    "that the garbage collector ran there; use it from another thread"
)


class Engine:
    """An `EngineCore` that any number of threads share, each of which waits for its own requests."""

    def __init__(self, core: EngineCore) -> None:
        """``core`` is the engine's alone from now on."""
        self.core = core
        self._worker = _Worker(core)
        self._finalizer = weakref.finalize(self, self._worker.stop)
        self._finalizer.atexit = False  # see `_finish_all`
        _engines.add(self)

    @property
    def waiting(self) -> deque[Request]:
        """The requests that wait for a slot or for room in the cache, oldest first."""
        return self.core.waiting

    @property
    def running(self) -> list[Request]:
        """The requests that are being decoded; the one at index i owns slot i."""
        return self.core.running

    def check(self, request: Request) -> None:
        """See `EngineCore.check`."""
        self.core.check(request)

    def submit(self, request: Request) -> None:
        """Queue a request; never waits.

        Raises what `EngineCore.check` does, and EngineError in a process that cannot generate: forked in the middle of
        a step, about to end, or without a thread to spare; or from within a step.
        """
        self._worker.check_usable()
        self.core.submit(request)
        self._worker.wake()

    def cancel(self, request: Request) -> None:
        """See `EngineCore.cancel`."""
        self.core.cancel(request)

    def next_event(self, events: SimpleQueue[Event]) -> Event:
        """Wait for what a request's sink puts into ``events``.

        Raises EngineError as `submit` does, OutOfMemoryError where the thread dies again and again as it starts.
        """
        for beat in itertools.count():
            with contextlib.suppress(Empty):
                return events.get(timeout=HEARTBEAT)
            self._worker.check_usable()
            if beat >= STARTS and not self._worker.serves:
                raise OutOfMemoryError(NO_THREAD)
            self._worker.wake()
        raise AssertionError  # it counts for ever

    def logits(self, token_ids: Ids) -> Logits:
        """See `EngineCore.logits`; raises EngineError, too, as `submit` does."""
        logits: Logits = self._ask(lambda wanted: self.core.logits(token_ids, wanted))
        return logits

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
        self._worker.close(LEFT)

    def renew(self) -> None:
        """Go on in a forked child, which has the memory of the thread, and not the thread."""
        self._finalizer.detach()
        self._worker = _Worker(self.core, unusable=FORKED if self._worker.active else None)
        self._finalizer = weakref.finalize(self, self._worker.stop)
        self._finalizer.atexit = False

    def _ask(self, function: Callable[[Callable[[], bool]], Any]) -> Any:
        """Have the thread call a function between two steps; returns or raises what it does."""
        self._worker.check_usable()
        question = _Question(function)
        self._worker.order(question.answer)
        self._worker.wake()
        try:
            return self.next_event(question.answers)()
        finally:
            question.wanted = False


class _Question:
    """What a caller wants to know, and the queue in which he finds a function that returns or raises the answer."""

    def __init__(self, function: Callable[[Callable[[], bool]], Any]) -> None:
        self.answers: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self.wanted = True
        self._function = function

    def answer(self) -> None:
        try:
            value = self._function(lambda: self.wanted)
        except BaseException as error:
            self.answers.put(_raising(error))
        else:
            self.answers.put(lambda: value)


class _Worker:
    """The thread: it waits for orders, and steps as long as there are requests. Holds the core, not the engine."""

    def __init__(self, core: EngineCore, unusable: str | None = None) -> None:
        """``unusable`` is why no request can be served in this process."""
        self.active = False  # while anything that a forked child inherits may be half done
        self._core = core
        self._unusable = unusable
        self._orders: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread: int | None = None  # the thread's identifier
        self._serving = threading.Lock()  # held by the thread, so that there is one however many were started
        self._stopped = False
        _workers.add(self)

    @property
    def serves(self) -> bool:
        """Whether the thread is there."""
        return self._serving.locked()

    def check_usable(self) -> None:
        """Raises EngineError where no request can be served, or the caller would wait for himself."""
        if self._unusable:
            raise EngineError(self._unusable)
        if self._thread == threading.get_ident():
            raise EngineError(NESTED)

    def order(self, order: Callable[[], object]) -> None:
        """Have something done between two steps, in the order of the orders. Never waits."""
        self._orders.put(order)

    def wake(self) -> None:
        """See to it that the thread runs and looks for requests. Raises EngineError where none can be started."""
        self._orders.put(_nothing)
        if not self.serves:
            try:  # a `threading.Thread` waits until it has begun, for ever where there is no memory for that
                _thread.start_new_thread(self._serve, ())
            except RuntimeError as error:
                raise EngineError(
                    f"the model's thread cannot be started ({error}); let this user have more threads, or use the "
                    "model before the interpreter ends"
                ) from error

    def stop(self) -> None:
        """Let the thread end after the step that it is in."""
        self._stopped = True
        self._orders.put(_nothing)

    def close(self, why: str) -> None:
        """As `stop`, and wait for it."""
        self._unusable = why
        self.stop()
        if self._thread != threading.get_ident():
            with self._serving:
                pass

    def _serve(self) -> None:
        """Run until `stop`; at once, where another thread serves."""
        if not self._serving.acquire(blocking=False):
            return
        try:
            self._thread = threading.get_ident()
            while not self._stopped:
                order = self._orders.get()
                self.active = True
                self._follow(order)
                self._work()
                self.active = False
        finally:
            self.active, self._thread = False, None
            self._serving.release()

    def _work(self) -> None:
        """Step until no request is left. A step that fails for none of them is tried once more."""
        failures = 0
        while self._core.busy:
            try:
                while not self._orders.empty():
                    self._follow(self._orders.get())
                if self._stopped:
                    return
                self._core.step()
                failures = 0
            except BaseException as error:
                failures += 1
                if failures > 1:
                    self._core.fail_all(error)

    def _follow(self, order: Callable[[], object]) -> None:
        with contextlib.suppress(Exception):  # a question has its answer by then, and nobody waits for the rest
            order()


def _nothing() -> None:
    pass


def _raising(error: BaseException) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_workers: weakref.WeakSet[_Worker] = weakref.WeakSet()  # of dropped engines, too


@atexit.register
def _finish_all() -> None:
    """Let running steps end: a thread that is killed in the middle of one takes the process with it."""
    for worker in list(_workers):
        worker.close(LEFT)


def _renew_all() -> None:
    _workers.clear()  # their threads did not come along
    for engine in list(_engines):
        engine.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
