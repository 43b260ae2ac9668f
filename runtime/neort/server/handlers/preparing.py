"""Work that would hold up the event loop: long texts, grammars, files. A few threads do it, and the queue is short."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ...errors import BusyError
from ..protocol import RequestError
from .contract import Call

__all__ = ["Preparing", "deadline_of", "timed_out"]

THREADS = 2
MOST_WAITING = 64

Result = TypeVar("Result")


def deadline_of(call: Call) -> float | None:
    """When a request has to be over, by `time.perf_counter`."""
    return None if call.timeout is None else call.arrived + call.timeout


def timed_out(call: Call) -> RequestError:
    """What a request is told that took too long."""
    return RequestError(
        504,
        f"the request took longer than {call.timeout:g} seconds, this server's limit; ask for fewer tokens at once, or "
        "raise the limit where the server is started",
        type="timeout_error",
        code="timeout",
    )


class Preparing:
    """Runs functions in threads for an event loop."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, "neort-prepare")
        self._waiting = 0

    async def run(self, function: Callable[[], Result], call: Call) -> Result:
        """What a function returns or raises, called in a thread.

        Where the task is cancelled the function is not called any more, or its result is dropped. Raises BusyError
        where too many wait already, RequestError at the call's deadline.
        """
        if self._waiting >= MOST_WAITING:
            raise BusyError(f"{self._waiting} requests wait for their prompts to be read, as many as may; try again")
        self._waiting += 1
        loop = asyncio.get_running_loop()
        left = None if call.timeout is None else loop.time() + seconds_left(call)
        try:
            async with asyncio.timeout_at(left):
                return await loop.run_in_executor(self._executor, function)
        except TimeoutError:
            raise timed_out(call) from None
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Take no more work, and wait for none."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def seconds_left(call: Call) -> float:
    """How long a request may still take."""
    deadline = deadline_of(call)
    return float("inf") if deadline is None else deadline - time.perf_counter()
