"""The engine's thread: it follows orders, and steps as long as there are requests.

Knows threads and the interpreter's end; knows nothing about what a step does, or who waits for it.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

from ..errors import EngineError
from .core import EngineCore

__all__ = ["Worker", "forget_parents_threads", "nothing"]

LEFT = "the interpreter ends, and with it the model's thread; generate before, or in a process of its own"
NESTED = (
    "the model was used within its own step, which would wait for itself: by a logits processor, or by a finalizer "
    "that the garbage collector ran there; use it from another thread"
)


class Worker:
    """A thread that starts when it is needed. It holds the core, not the engine, which may be dropped."""

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
        self._orders.put(nothing)
        if not self.serves:
            try:  # a `threading.Thread` waits until it has begun, for ever where there is no memory for that
                _thread.start_new_thread(self._serve, ())
            except RuntimeError as error:
                raise EngineError(
                    f"the model's thread cannot be started ({error}); give the process more memory or this user more "
                    "threads, or use the model before the interpreter ends"
                ) from error

    def stop(self) -> None:
        """Let the thread end after the step that it is in."""
        self._stopped = True
        self._orders.put(nothing)

    def close(self) -> None:
        """As `stop`, and wait for it. Whoever waits for a request gets an EngineError."""
        self._unusable = LEFT
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


def nothing() -> None:
    """Do nothing: an order that only wakes the thread."""


def forget_parents_threads() -> None:
    """Forget, in a forked child, the threads that did not come along."""
    _workers.clear()


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()  # of dropped engines, too


@atexit.register
def _finish_all() -> None:
    """Let running steps end: a thread that is killed in the middle of one takes the process with it."""
    for worker in list(_workers):
        worker.close()
