"""A file's records answered by several processes: the same results in the same order, whatever becomes of a process.

Each process has a few records at a time. What one leaves undone when it ends is done by the others, and another takes
its place; records that are at hand whenever a process ends are given up, with an error that names them.
"""

from __future__ import annotations

import collections
import heapq
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from ..errors import EngineError, NeortError
from ..workers import Share, Worker, ending_in_words, failure
from .records import Record
from .results import WINDOW, Result, threads_of
from .worker import END, GO, READY, RECORD, RESULT, Job, work

__all__ = ["answers_of_workers"]

HEARTBEAT = 1.0  # seconds: on Windows nothing but a time limit lets Ctrl-C in
MOST_ENDS = 3  # of processes: with the same record at hand, or before they were ready
LAST_SECONDS = 10.0  # for a process without records to end


def answers_of_workers(
    job: Job,
    shares: Sequence[Share],
    records: Iterator[Record],
    *,
    folder: Path | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Generator[Result, None, None]:
    """Yield each record with its result, in order, as `results.answers` does; by a process for each of ``shares``.

    ``folder`` is for weights that the processes share; the first one saves them there before the others load. ``say``
    is told of processes that end. Whoever drops the generator ends the processes.

    Raises what `neort.load` and `results.answers` do, with the worker's name before it; EngineError where processes
    end again and again.
    """
    crew = _Crew(job, shares, folder, say)
    try:
        crew.begin()
        yield from _Answering(crew, records).results()
        crew.end()
    finally:
        crew.kill()


class _Member:
    """A process, and the records that it has."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.ready = False
        self.records: dict[int, Record] = {}


class _Crew:
    """The processes. A process that has ended is followed by another with the same number."""

    def __init__(self, job: Job, shares: Sequence[Share], folder: Path | None, say: Callable[[str], object]) -> None:
        self.job, self._shares, self._folder, self._say = job, shares, folder, say
        self._unready = 0  # processes in a row that ended before they were ready
        self.members: dict[Any, _Member] = {}  # by their pipes
        self.room = 2 * threads_of(job.config, job.batch_size)  # records of one process
        self._waiting: list[_Member] = []  # for their turn to load

    def begin(self) -> None:
        """Start all; where they share weights, the first one loads before the others."""
        for number in range(len(self._shares)):
            self.start(number)
        self._waiting = [*self.members.values()]
        one_first = self._folder is not None or self.job.loading.get("packed_weights") is not None
        self._go(1 if one_first else len(self._shares))

    def start(self, number: int) -> _Member:
        """Start a process; it waits until it is told to go."""
        share = self._shares[number]
        worker = Worker(number, work, (self.job, share.threads, self._folder), share.cpus)
        self.members[worker.pipe] = member = _Member(worker)
        return member

    def note_ready(self, member: _Member) -> None:
        """A process has loaded the model; those that waited for it go."""
        member.ready, self._unready = True, 0
        self._go(len(self._waiting))

    def replace(self, member: _Member) -> None:
        """Start another process in the place of one that has ended. Raises EngineError where they do so at once."""
        del self.members[member.worker.pipe]
        member.worker.wait()
        ended = f"{member.worker} {ending_in_words(member.worker.status)}"
        member.worker.close()
        self._unready += not member.ready
        if self._unready >= MOST_ENDS:
            raise EngineError(f"{ended} before it was ready, as did {MOST_ENDS - 1} before it; see what ends them")
        again = f"; its {len(member.records)} records are run again" if member.records else ""
        self._say(f"{ended}{again}")
        self._waiting = [each for each in self._waiting if each is not member]
        self.start(member.worker.number).worker.tell(GO)

    def end(self) -> None:
        """Let processes without records end; those that still load a model end at once."""
        for member in self.members.values():
            if member.ready:
                member.worker.tell(END)
            else:
                member.worker.kill()
        for member in self.members.values():
            member.worker.wait(LAST_SECONDS)

    def kill(self) -> None:
        """End all processes that there are."""
        for member in self.members.values():
            member.worker.kill()
        for member in self.members.values():
            member.worker.wait(LAST_SECONDS)
            member.worker.close()

    def _go(self, count: int) -> None:
        """Let so many of those that wait load the model."""
        for member in self._waiting[:count]:
            member.worker.tell(GO)
        del self._waiting[:count]


class _Answering:
    """Records on their way through the processes."""

    def __init__(self, crew: _Crew, records: Iterator[Record]) -> None:
        self._crew, self._records = crew, records
        self._again: list[tuple[int, Record]] = []  # a heap: what ended processes left
        self._known: dict[int, Record] = {}  # without a result that was handed on
        self._found: dict[int, dict[str, Any] | NeortError] = {}
        self._ends: collections.Counter[int] = collections.Counter()  # of processes that had a record
        self._next: int | None = None  # the record whose result comes next
        self._more = True
        self._window = WINDOW * threads_of(crew.job.config, crew.job.batch_size) * len(crew.members)

    def results(self) -> Generator[Result, None, None]:
        """Yield each record with its result, in order."""
        while True:
            self._hand_out()
            if not self._known and not self._more:
                return
            self._receive()
            yield from self._in_order()

    def _hand_out(self) -> None:
        """Give records to processes that have room, the least busy one first."""
        while True:
            ready = [each for each in self._crew.members.values() if each.ready]
            free = min(ready, key=lambda each: len(each.records), default=None)
            if free is None or len(free.records) >= self._crew.room or (record := self._take()) is None:
                return
            free.records[record.index] = record
            free.worker.tell(RECORD, record)
            if wait([*self._crew.members], 0):
                return  # the next record may take long to come, and a result is here

    def _take(self) -> Record | None:
        """A record to run now, if there is one and its result would not be too early."""
        if self._again:
            return heapq.heappop(self._again)[1]
        if not self._more or len(self._known) >= self._window:
            return None
        record = next(self._records, None)
        if record is None:
            self._more = False
            return None
        if self._next is None:
            self._next = record.index
        self._known[record.index] = record
        return record

    def _in_order(self) -> Generator[Result, None, None]:
        while self._next in self._found:
            found = self._found.pop(self._next)
            if isinstance(found, NeortError):
                raise found
            record = self._known.pop(self._next)
            self._next += 1
            yield record, found

    def _receive(self) -> None:
        """Wait for what processes say, and take it."""
        for pipe in wait([*self._crew.members], HEARTBEAT):
            member = self._crew.members[pipe]
            try:
                message = member.worker.pipe.recv()
            except (EOFError, OSError):
                self._note_end(member)
                continue
            self._note(member, *message)

    def _note(self, member: _Member, kind: str, index: int | None = None, *told: Any) -> None:
        if kind == READY:
            self._crew.note_ready(member)
        elif index is None:  # the model cannot be loaded
            raise failure(member.worker, *told)
        elif member.records.pop(index, None) is not None:
            self._found[index] = told[0] if kind == RESULT else failure(f"record {index} in {member.worker}", *told)
            self._more = self._more and kind == RESULT

    def _note_end(self, member: _Member) -> None:
        """Have the records of a process that has ended done again."""
        for index, record in member.records.items():
            self._ends[index] += 1
            heapq.heappush(self._again, (index, record))
        if often := [index for index, count in self._ends.items() if count >= MOST_ENDS]:
            raise EngineError(
                f"{MOST_ENDS} workers ended while they had record {min(often)}; give the same command again to go on, "
                "with fewer --workers if memory is short"
            )
        self._crew.replace(member)
