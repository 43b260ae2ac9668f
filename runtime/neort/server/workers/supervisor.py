"""A server of several processes: one accepts connections, and hands each to the worker that has the least to do.

So no worker waits while another has a queue, as it happens where the system wakes whoever listens. A worker that ends
is followed by another; the connections that it had not taken go to the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ...workers import Share
from ..app.access.guard import LOG
from ..app.serving import DONE, FAILED, LAST_WORDS, ending_signals, request_log
from ..app.transport import address_in_words, is_local, removed_at_end
from .common import Common
from .crew import Crew
from .member import Member, least_busy
from .messages import ASK, HELD
from .worker import Job

__all__ = ["Supervisor", "serve_workers"]

BACKLOG = 2048
PAUSE = 0.2  # seconds after an accept that failed, for want of files say
MARGIN = 10.0  # seconds that a worker has for its end beyond those that it knows of


def serve_workers(
    job: Job,
    shares: Sequence[Share],
    bound: socket.socket,
    *,
    together: bool = True,
    ready: Callable[[str], object] = lambda address: None,
) -> int:
    """Serve by one worker for each of ``shares`` until a signal comes. Returns the exit status; see `app.serve`.

    ``bound`` is a socket of `listening_socket`. Unless the workers load ``together``, the first one comes before the
    others, since it saves what they share. ``ready`` is called with the address once all are ready.

    Raises what a worker raises as it loads, with its name before it.
    """
    with request_log():
        return asyncio.run(Supervisor(job, shares, bound, together=together, ready=ready).run())


class Supervisor:
    """The process that accepts, in its event loop."""

    def __init__(
        self,
        job: Job,
        shares: Sequence[Share],
        bound: socket.socket,
        *,
        together: bool,
        ready: Callable[[str], object],
    ) -> None:
        """See `serve_workers`."""
        self._bound, self._ready = bound, ready
        self._job = job = dataclasses.replace(job, local=is_local(bound))
        self._first = len(shares) if together else 1
        self._crew = Crew(job, shares, take=self._take, lose=self._lose, welcome=self._welcome, give_up=self.stop)
        self._common = Common(self._crew.members)
        self._homeless: deque[socket.socket] = deque()  # connections that no worker has room for
        self._room = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Serve until a signal. Returns the exit status."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._crew.start(self._first)
            with ending_signals(self.stop), removed_at_end(self._bound):
                self._bound.listen(BACKLOG)
                self._crew.soon(self._accept())
                self._find_homes()
                self._ready(address_in_words(self._bound))
                await self._stop.wait()
                await self._drain()
        finally:
            self._crew.kill()
            self._bound.close()
            for connection in self._homeless:
                connection.close()
        return FAILED if self._crew.failed else DONE

    def stop(self) -> None:
        """Begin the end, if it has not begun; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the end was reached
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _drain(self) -> None:
        """Let all workers come to their end; meanwhile they answer that the server ends."""
        self._crew.end()
        seconds = self._job.settings.shutdown_timeout + 2 * LAST_WORDS + MARGIN
        try:
            async with asyncio.timeout(seconds):
                await self._crew.ended.wait()
        except TimeoutError:
            LOG.error("%s did not end in %.0f s", ", ".join(str(each.worker) for each in self._crew.here), seconds)
            self._crew.failed = True

    async def _accept(self) -> None:
        """Accept connections as long as there is a worker with room for one."""
        while True:
            await self._room.wait()
            try:
                connection, _ = await self._loop.sock_accept(self._bound)
            except OSError:
                await asyncio.sleep(PAUSE)
            else:
                self._homeless.append(connection)
                self._find_homes()

    def _find_homes(self) -> None:
        """Hand connections to the workers that have the least to do, as long as there is room."""
        while (member := least_busy(self._crew.here)) is not None and self._homeless:
            member.hand(self._homeless.popleft())
        if member is None:
            self._room.clear()
        else:
            self._room.set()

    def _take(self, member: Member, kind: str, *values: Any) -> None:
        """Take a worker's message."""
        if kind == ASK:
            self._crew.soon(self._common.answer(member, *values))
        elif kind == HELD:
            self._find_homes()

    async def _welcome(self, member: Member) -> None:
        """A worker has taken the place of another."""
        self._common.note_follower()
        await self._common.bring(member)
        member.admit()
        self._find_homes()

    def _lose(self, member: Member) -> None:
        """A worker has ended; others get the connections that it had not taken."""
        self._common.note_end(member)
        self._homeless.extendleft(reversed(member.untaken))
        member.untaken.clear()
        self._find_homes()
