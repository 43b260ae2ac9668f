"""What a server's processes say to each other: messages, of which some are questions that have an answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

__all__ = [
    "ANSWER",
    "ASK",
    "CLOSING",
    "CONNECTION",
    "FAILED",
    "FIGURES",
    "GO",
    "HELD",
    "PREFIXES",
    "READY",
    "STOP",
    "Questions",
]

# The parent says
GO, STOP = "go", "stop"
CONNECTION = "connection"  # which follows, see `workers.hand_over`

# A worker says
READY, FAILED = "ready", "failed"
HELD = "held"  # how many connections it has taken so far, how many are open, and at work
CLOSING = "closing"  # it takes no further connections

# Both say
ASK, ANSWER = "ask", "answer"
FIGURES, PREFIXES = "figures", "prefixes"  # what is asked for

GONE = ConnectionError("the other process has ended")


class Questions:
    """Questions to another process, in an event loop's thread."""

    def __init__(self, tell: Callable[..., object]) -> None:
        """``tell`` sends a message."""
        self._tell = tell
        self._numbers = itertools.count()
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._gone = False
        self.unanswered = 0  # since the last answer

    async def ask(self, what: str, value: Any, seconds: float) -> Any:
        """The other's answer. Raises TimeoutError where none comes in time, ConnectionError where it ends."""
        if self._gone:
            raise GONE
        number = next(self._numbers)
        self._open[number] = asyncio.get_running_loop().create_future()
        self.unanswered += 1
        try:
            self._tell(ASK, number, what, value)
            async with asyncio.timeout(seconds):
                return await self._open[number]
        finally:
            del self._open[number]

    def take(self, number: int, value: Any) -> None:
        """Take an answer, unless nobody waits for it any more."""
        self.unanswered = 0
        answer = self._open.get(number)
        if answer is not None and not answer.done():
            answer.set_result(value)

    def drop(self) -> None:
        """The other process has ended."""
        self._gone = True
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(GONE)
