"""One worker as its parent sees it: what it has been handed, what it says, and how busy it is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ...workers import Worker, ending_in_words, hand_over
from .messages import ANSWER, CLOSING, CONNECTION, FAILED, GO, HELD, READY, STOP, Questions

__all__ = ["Member", "least_busy"]

MOST_UNTAKEN = 4  # connections that a worker may leave where they are before it gets further ones


class Member:
    """A worker, in its parent's event loop.

    Attributes:
        ready: done when it has loaded; its result is what it says against it, or None.
        takes: whether it takes connections.
        open: how many connections it has.
        at_work: how many of these have a request, or are new.
    """

    def __init__(self, worker: Worker, taken: Callable[..., object], ended: Callable[[Member], object]) -> None:
        """``taken(member, kind, *values)`` gets its messages, ``ended(member)`` is called when the process ended."""
        self.worker = worker
        self.questions = Questions(worker.tell)
        self.ready: asyncio.Future[tuple[str, str] | None] = asyncio.get_running_loop().create_future()
        self.takes = False
        self.open = self.at_work = 0
        self.untaken: deque[socket.socket] = deque()
        self._taken = 0
        self._told_to_end = self._closing = False
        self._loop = asyncio.get_running_loop()
        self._on_message, self._on_end = taken, ended
        self._reading = threading.Thread(target=self._read, name=f"neort-{worker.number}", daemon=True)
        self._reading.start()

    @property
    def number(self) -> int:
        """Which of the workers it is."""
        return self.worker.number

    @property
    def is_ready(self) -> bool:
        """Whether it has loaded."""
        return self.ready.done() and self.ready.result() is None

    @property
    def burden(self) -> tuple[int, int]:
        """How busy it is: connections at work or on their way, then all of them."""
        on_their_way = len(self.untaken)
        return self.at_work + on_their_way, self.open + on_their_way

    @property
    def has_room(self) -> bool:
        """Whether it may be handed a connection now."""
        return self.takes and len(self.untaken) < MOST_UNTAKEN

    @property
    def ending(self) -> str:
        """How its process has ended."""
        return ending_in_words(self.worker.status)

    def go(self) -> None:
        """Let it load."""
        self.worker.tell(GO)

    def admit(self) -> None:
        """Let it take connections, unless it has begun to end."""
        self.takes = not self._closing

    def hand(self, connection: socket.socket) -> None:
        """Hand it a connection, which stays open here until it says that it has it."""
        self.untaken.append(connection)
        self.worker.tell(CONNECTION)
        with contextlib.suppress(OSError):  # it has ended: its connections are handed to others then
            hand_over(self.worker.pipe, connection, self.worker.pid)

    def end(self) -> None:
        """Tell it to come to its end. Until then it takes connections, to say so; one that still loads ends at once."""
        self._told_to_end = True
        if self.ready.done():
            self.worker.tell(STOP)
        else:
            self.worker.kill()

    def joined(self) -> None:
        """Wait until its process has ended and this has been noticed."""
        self._reading.join()

    def _read(self) -> None:
        """Take its messages, in a thread, until it ends."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._say(self._take, *self.worker.pipe.recv())
        self.worker.wait()
        self._say(self._end)

    def _say(self, function: Callable[..., object], *values: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *values)

    def _take(self, kind: str, *values: Any) -> None:
        if kind == READY:
            self._settle(None)
        elif kind == FAILED:
            self._settle((values[0], values[1]))
        elif kind == ANSWER:
            self.questions.take(*values)
        elif kind == CLOSING:
            self._closing = True
            self.takes = self._told_to_end
        elif kind == HELD:
            taken, self.open, self.at_work = values
            while self._taken < taken:
                self._taken += 1
                self.untaken.popleft().close()
        self._on_message(self, kind, *values)

    def _end(self) -> None:
        self.takes = False
        self.questions.drop()
        self.worker.close()
        self._settle(("EngineError", f"it {self.ending} before it was ready; what it said last is above"))
        self._on_end(self)

    def _settle(self, said: tuple[str, str] | None) -> None:
        if not self.ready.done():
            self.ready.set_result(said)


def least_busy(members: Iterable[Member]) -> Member | None:
    """The member with room that has the least to do; None where none has room."""
    return min((each for each in members if each.has_room), key=lambda each: each.burden, default=None)
