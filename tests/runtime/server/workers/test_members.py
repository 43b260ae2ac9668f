"""A worker as its parent sees it, and the parent as a worker does, where one of them is about to end."""

from __future__ import annotations

import asyncio
import os
import socket
from multiprocessing import Pipe
from typing import Any, cast

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from neort.server.workers.member import Member
from neort.server.workers.messages import CLOSING, CONNECTION, READY, STOP, Questions
from neort.server.workers.worker import Job, _Worker
from neort.workers import hand_over, taken_over


class FakeWorker:
    """A process that says what it is told to say."""

    number, pid, status = 0, 1, 0

    def __init__(self) -> None:
        self.pipe, self.theirs = Pipe()

    def tell(self, *message: Any) -> None:
        self.pipe.send(message)

    def wait(self, seconds: float | None = None) -> bool:
        return True

    def close(self) -> None:
        self.pipe.close()


def test_a_worker_that_has_begun_to_end_gets_no_connections_though_it_was_to() -> None:
    async def scene() -> list[bool]:
        worker = FakeWorker()
        ended = asyncio.Event()
        member = Member(cast(Any, worker), lambda *_: None, lambda _: ended.set())
        worker.theirs.send((READY,))
        await member.ready
        member.admit()
        took = [member.takes]
        worker.theirs.send((CLOSING,))
        worker.theirs.close()
        await ended.wait()
        member.admit()
        return [*took, member.takes]

    assert asyncio.run(scene()) == [True, False]


def test_nobody_waits_for_the_answer_of_a_process_that_has_ended() -> None:
    async def scene() -> None:
        questions = Questions(lambda *_: None)
        waiting = asyncio.create_task(questions.ask("figures", None, 600))
        await asyncio.sleep(0)
        questions.drop()
        for answer in (waiting, questions.ask("figures", None, 600)):
            with pytest.raises(ConnectionError, match="has ended"):
                await answer

    asyncio.run(scene())


@pytest.mark.skipif(os.name != "posix", reason="connections are handed over in another way")
def test_a_connection_that_comes_after_the_loop_has_ended_does_no_harm() -> None:
    ours, theirs = Pipe()
    parent: Any = FakeWorker()
    parent.pipe = theirs
    worker = _Worker(parent, cast(Job, None))
    worker._loop = asyncio.new_event_loop()
    worker._loop.close()
    here, there = socket.socketpair()
    with here, there:
        hand_over(ours, here, os.getpid())
        worker.receive((CONNECTION,))
        worker.receive((STOP,))


@pytest.mark.skipif(os.name != "posix", reason="connections are handed over in another way")
def test_handing_a_connection_over_takes_no_further_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "dup", full)
    ours, theirs = Pipe()
    here, there = socket.socketpair()
    with here, there:
        hand_over(ours, here, os.getpid())
        ours.send("what comes next")
        found = taken_over(theirs)
        assert found is not None
        with found:
            found.sendall(b"!")
            assert there.recv(1) == b"!"
        assert theirs.recv() == "what comes next"
