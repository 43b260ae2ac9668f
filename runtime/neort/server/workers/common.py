"""What workers have in common and none of them knows alone: the figures of all, and the prefixes that all hold."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..app.access.guard import LOG
from .figures import Figures
from .member import Member
from .messages import ANSWER, FIGURES, PREFIXES

__all__ = ["Common"]

FIGURES_SECONDS, PREFIXES_SECONDS = 2.0, 30.0
MOST_UNANSWERED = 3  # questions to a worker that answers none: it may be stopped


class Common:
    """Answers workers' questions, in the event loop of their parent."""

    def __init__(self, members: Mapping[int, Member]) -> None:
        """``members`` are those that run at any time."""
        self._members = members
        self._figures = Figures()
        self._gathering: asyncio.Task[None] | None = None
        self._held: dict[tuple[str, str], Any] = {}  # requests to load prefixes, by model and file
        self._spreading = asyncio.Lock()

    async def answer(self, member: Member, number: int, what: str, value: Any) -> None:
        """Answer a worker's question."""
        told: bytes | None = None
        if what == FIGURES:
            told = await self.figures()
        else:
            await self._spread(member, *value)
        member.worker.tell(ANSWER, number, told)

    async def figures(self) -> bytes:
        """The figures of all workers; of one that does not answer, those that it told last."""
        if self._gathering is None or self._gathering.done():
            self._gathering = asyncio.create_task(self._gather())
        await asyncio.shield(self._gathering)
        return self._figures.text(len(self._at_work()))

    async def bring(self, member: Member) -> None:
        """Have a new worker hold what all hold."""
        async with self._spreading:
            for request in self._held.values():
                await self._hold(member, request)

    def note_end(self, member: Member) -> None:
        """Note that a worker has ended."""
        self._figures.note_end(member.number)

    def note_follower(self) -> None:
        """Note that a worker has taken the place of one that has ended."""
        self._figures.note_follower()

    def _at_work(self) -> list[Member]:
        return [each for each in self._members.values() if each.is_ready]

    async def _gather(self) -> None:
        await asyncio.gather(*map(self._note, self._at_work()))

    async def _note(self, member: Member) -> None:
        if member.questions.unanswered > MOST_UNANSWERED:
            return
        try:
            told = await member.questions.ask(FIGURES, None, FIGURES_SECONDS)
        except (TimeoutError, ConnectionError):
            return
        if self._members.get(member.number) is member:  # else what it had counted is in the sums already
            self._figures.note(member.number, told)

    async def _spread(self, origin: Member, done: dict[str, Any], request: Any) -> None:
        """Have all others do with a prefix what one has done."""
        async with self._spreading:
            key = done["model"], done["filename"]
            if done["action"] == "load":
                self._held[key] = request
            else:
                self._held.pop(key, None)
            others = [each for each in self._at_work() if each is not origin]
            await asyncio.gather(*(self._hold(each, request) for each in others))

    async def _hold(self, member: Member, request: Any) -> None:
        try:
            against = await member.questions.ask(PREFIXES, request, PREFIXES_SECONDS)
        except (TimeoutError, ConnectionError) as error:
            against = str(error) or "it did not answer in time"
        if against:
            LOG.error("%s has not done with the prefix %s what others did: %s", member.worker, request, against)
