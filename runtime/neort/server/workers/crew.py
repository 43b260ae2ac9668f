"""The workers of a server: started, followed by others when they end, and told to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ...errors import EngineError, NeortError
from ...workers import Share, Worker, failure
from ..app.access.guard import LOG
from .member import Member
from .worker import Job, work

__all__ = ["Crew"]

MOST_UNREADY = 3  # workers in a row that end before they are ready
PAUSE = 0.2  # seconds before another worker is started, and that much more for each that was not ready


class Crew:
    """Workers by their numbers, in the event loop of their parent.

    Attributes:
        members: those whose processes run.
        failed: whether a worker has ended as it should not, and none could take its place.
        ended: set once the end has begun and no member is left.
    """

    def __init__(
        self,
        job: Job,
        shares: Sequence[Share],
        *,
        take: Callable[..., object],
        lose: Callable[[Member], object],
        welcome: Callable[[Member], Awaitable[None]],
        give_up: Callable[[], object],
    ) -> None:
        """``take(member, kind, *values)`` gets messages; ``lose`` each that has ended, ``welcome`` each that follows.

        ``give_up`` is called where none follows, since it would end at once.
        """
        self._job, self._shares = job, shares
        self._take, self._lose, self._welcome, self._give_up = take, lose, welcome, give_up
        self.members: dict[int, Member] = {}
        self.failed = False
        self.ended = asyncio.Event()
        self._started = self._ending = False
        self._unready = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def here(self) -> list[Member]:
        """Those whose processes run."""
        return [*self.members.values()]

    async def start(self, first: int) -> None:
        """Start all, of which the ``first`` ones load before the others. Raises what a worker raises as it loads."""
        members = [self._launch(number) for number in range(len(self._shares))]
        for group in (members[:first], members[first:]):
            for member in group:
                member.go()
            await asyncio.gather(*map(_loaded, group))
        self._started = True

    def end(self) -> None:
        """Tell all to come to their end; those that still load are ended."""
        self._ending = True
        for member in self.here:
            member.end()
        if not self.members:
            self.ended.set()

    def kill(self) -> None:
        """End all that are left at once, and wait until they have ended."""
        self._ending = True
        for member in self.here:
            member.worker.kill()
        for member in self.here:
            member.joined()
            member.worker.close()

    def soon(self, work: Awaitable[None]) -> None:
        """Do something beside, until the loop ends."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _launch(self, number: int) -> Member:
        share = self._shares[number]
        worker = Worker(number, work, (self._job, share.threads), share.cpus)
        try:
            member = Member(worker, self._take, self._note_end)
        except RuntimeError as error:  # no thread to read its messages
            worker.kill()
            worker.wait()
            worker.close()
            raise EngineError(f"the system starts no further thread ({error}); give fewer --workers") from error
        self.members[number] = member
        return member

    def _note_end(self, member: Member) -> None:
        """A process has ended: as it was told, or by itself."""
        if self.members.pop(member.number, None) is None:
            return
        self._lose(member)
        if self._ending:
            self.failed = self.failed or (member.is_ready and member.worker.status != 0)
            if not self.members:
                self.ended.set()
            return
        if not self._started and not member.is_ready:
            return  # `start` says so
        LOG.error("%s %s%s", member.worker, member.ending, "" if member.is_ready else " before it was ready")
        self._replace(member.number, unready=not member.is_ready)

    def _replace(self, number: int, *, unready: bool) -> None:
        """Have another worker follow, unless so many in a row were never ready."""
        self._unready = self._unready + 1 if unready else 0
        if self._unready < MOST_UNREADY:
            self.soon(self._follow(number, PAUSE * (1 + self._unready)))
            return
        LOG.error("%d workers in a row ended before they were ready; the server ends", MOST_UNREADY)
        self.failed = True
        self._give_up()

    async def _follow(self, number: int, pause: float) -> None:
        """Start a worker in the place of one that has ended."""
        await asyncio.sleep(pause)
        if self._ending:
            return
        try:
            member = self._launch(number)
        except NeortError as error:
            LOG.error("%s", error)
            self._replace(number, unready=True)
            return
        member.go()
        said = await member.ready
        if self._ending:
            return
        if said is not None:
            LOG.error("%s: %s", member.worker, said[1])  # and it ends
        else:
            self._unready = 0
            LOG.info("%s takes its place", member.worker)
            await self._welcome(member)


async def _loaded(member: Member) -> None:
    """Wait until a worker has loaded. Raises what it says against it."""
    if (said := await member.ready) is not None:
        raise failure(member.worker, *said)
    member.admit()
