"""A fair lock: threads get it in the order in which they ask."""

from __future__ import annotations

import threading
from collections import deque

__all__ = ["FairLock"]


class FairLock:
    """A lock that threads get in the order in which they ask; a `threading.Lock` goes to the fastest, which is the
    thread that has just released it.
    """

    def __init__(self) -> None:
        self._queue: deque[object] = deque()  # its first entry holds the lock
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket)
            except BaseException:
                self._queue.remove(ticket)
                self._changed.notify_all()
                raise

    def __exit__(self, *_: object) -> None:
        self.release()

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it or waits for it; whoever gets True calls `release`."""
        with self._changed:
            if self._queue:
                return False
            self._queue.append(object())
            return True

    def release(self) -> None:
        """Give the lock to the next in the queue."""
        with self._changed:
            self._queue.popleft()
            self._changed.notify_all()
