"""A function of many items on several threads, with the results in the items' order and few of them in flight."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

__all__ = ["in_order"]

Item = TypeVar("Item")
Value = TypeVar("Value")

HEARTBEAT = 1.0  # seconds: on Windows nothing but a time limit lets Ctrl-C in


class _Task(Generic[Item, Value]):
    """One item, and its value or its error once it has one."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self._answers: SimpleQueue[tuple[Value | None, BaseException | None]] = SimpleQueue()

    @property
    def ready(self) -> bool:
        return not self._answers.empty()

    def compute(self, function: Callable[[Item], Value]) -> None:
        try:
            value = function(self.item)
        except BaseException as error:
            self._answers.put((None, error))
        else:
            self._answers.put((value, None))

    def result(self) -> Value:
        """Wait for the value. Raises what the function did."""
        while True:
            try:
                value, error = self._answers.get(timeout=HEARTBEAT)
            except Empty:
                continue
            if error is not None:
                raise error
            return value  # type: ignore[return-value]  # there is one where there is no error


def in_order(
    function: Callable[[Item], Value], items: Iterable[Item], *, workers: int, window: int
) -> Generator[Value, None, None]:
    """Yield ``function(item)`` for each item, in order; computed by ``workers`` threads, at most ``window`` at a time.

    Items are taken as there is room, so that there may be any number of them. What the function raises for an item is
    raised in its place, and nothing follows. Whoever drops the generator waits for nothing: what is being computed
    then is finished by its thread, and forgotten.
    """
    waiting: SimpleQueue[_Task[Item, Value] | None] = SimpleQueue()
    dropped = threading.Event()

    def work() -> None:
        while (task := waiting.get()) is not None and not dropped.is_set():
            task.compute(function)

    threads = [threading.Thread(target=work, name="neort-batch", daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield from _computed(items, waiting, window)
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()
    finally:
        dropped.set()
        for _ in threads:
            waiting.put(None)


def _computed(
    items: Iterable[Item], waiting: SimpleQueue[_Task[Item, Value] | None], window: int
) -> Generator[Value, None, None]:
    pending: deque[_Task[Item, Value]] = deque()
    for item in items:
        task: _Task[Item, Value] = _Task(item)
        pending.append(task)
        waiting.put(task)
        while pending and (pending[0].ready or len(pending) >= window):
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
