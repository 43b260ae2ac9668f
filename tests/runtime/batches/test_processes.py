"""Records answered by several processes: in order, each once, whatever ends a process; with threads in their place."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from typing import Any

import pytest

from neort import BundleError, EngineError, GenerationConfig, PromptError
from neort.batches import Job, Record, answers_of_workers, processes
from neort.batches.results import WINDOW, threads_of
from neort.batches.worker import END, FAILED, GO, READY, RECORD, RESULT
from neort.bundle import bundled_path
from neort.workers import Share
from patience import PATIENCE

JOB = Job(bundled_path(), {}, GenerationConfig(), "completion", 2)
DIES, FAILS, WAITS = "dies", "fails", "waits"  # what a worker may do with a record; else it answers


class Threads:
    """What stands for processes: threads, each with a pipe. ``does`` says what becomes of a record, or of READY."""

    def __init__(self, does: Callable[[Record | None], str]) -> None:
        self.does = does
        self.given: list[int] = []
        self.sent: list[int] = []
        self.most_at_hand = 0
        self.alive: set[Any] = set()
        threads = self

        class FakeWorker:
            status = -9

            def __init__(self, number: int, work: object, arguments: object, cpus: object) -> None:
                self.number, self.pid = number, 100 + number
                self.pipe, theirs = Pipe()
                threads.alive.add(self)
                self.thread = threading.Thread(target=threads.work, args=(self, theirs), daemon=True)
                self.thread.start()

            def tell(self, *message: Any) -> None:
                with contextlib.suppress(OSError):
                    self.pipe.send(message)

            def wait(self, seconds: float | None = None) -> bool:
                self.thread.join(seconds)
                return True

            def kill(self) -> None:
                self.pipe.close()

            def close(self) -> None:
                self.pipe.close()

            def __str__(self) -> str:
                return f"worker {self.number}"

        self.FakeWorker = FakeWorker

    def work(self, worker: Any, pipe: Any) -> None:
        at_hand = 0
        try:
            while True:
                kind, *values = pipe.recv()
                what = self.does(values[0] if values else None)
                if kind == END or what == DIES:
                    return
                if kind == GO:
                    pipe.send((READY,) if what != FAILS else (FAILED, None, "BundleError", "there is no bundle"))
                    continue
                assert kind == RECORD
                at_hand += 1
                self.given.append(values[0].index)
                if what == FAILS:
                    pipe.send((FAILED, values[0].index, "PromptError", "no"))
                elif what != WAITS:
                    pipe.send((RESULT, values[0].index, {"text": values[0].prompt}))
                    self.sent.append(values[0].index)
        except (EOFError, OSError):
            pass
        finally:
            self.alive.discard(worker)
            pipe.close()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Record | None], str]], Threads]:
    def make(does: Callable[[Record | None], str]) -> Threads:
        made = Threads(does)
        monkeypatch.setattr(processes, "Worker", made.FakeWorker)
        return made

    return make


def records(count: int, first: int = 0) -> Iterator[Record]:
    return (Record(i, "", 0, f"prompt {i}") for i in range(first, first + count))


def answered(count: int, workers: int = 3, first: int = 0, **options: Any) -> list[int]:
    found = [*answers_of_workers(JOB, [Share(1)] * workers, records(count, first), **options)]
    assert all(result == {"text": record.prompt} for record, result in found)
    return [record.index for record, _ in found]


@pytest.mark.parametrize("workers", [1, 2, 7, 64])
def test_results_come_in_the_order_of_the_records_wherever_these_begin(threads: Any, workers: int) -> None:
    made = threads(lambda record: "answers")
    assert answered(500, workers, first=31) == list(range(31, 531))
    assert sorted(made.given) == list(range(31, 531))
    assert answered(0, workers) == []
    assert not made.alive


@pytest.mark.parametrize("seed", range(20))
def test_workers_that_end_at_any_moment_cost_no_record_and_give_none_twice(threads: Any, seed: int) -> None:
    """Each worker may end at any record, as long as none is at hand too often."""
    source, ends, lock = random.Random(seed), Counter[int](), threading.Lock()

    def does(record: Record | None) -> str:
        with lock:
            if record is None or source.random() > 0.03 or sum(ends.values()) >= processes.MOST_ENDS - 1:
                return "answers"
            ends[record.index] += 1
            return DIES

    said: list[str] = []
    made = threads(does)
    assert answered(200, say=said.append) == list(range(200))
    assert len(said) == sum(ends.values())
    assert all("was ended by SIGKILL" in each for each in said)
    assert not made.alive


def test_a_record_that_ends_every_worker_ends_the_run_by_an_error_that_names_it(threads: Any) -> None:
    threads(lambda record: DIES if record is not None and record.index == 20 else "answers")
    said: list[str] = []
    found: list[int] = []
    with pytest.raises(EngineError, match=r"3 workers ended while they had record (1\d|20); give the same command"):
        found += (record.index for record, _ in answers_of_workers(JOB, [Share(1)] * 2, records(99), say=said.append))
    assert len(said) == processes.MOST_ENDS - 1  # of the last one the error tells
    assert found == list(range(len(found)))


def test_workers_that_are_never_ready_end_the_run_by_an_error(threads: Any) -> None:
    threads(lambda record: DIES)
    with pytest.raises(EngineError, match=r"before it was ready, as did 2 before it"):
        answered(5)


def test_an_error_while_loading_is_that_error_and_names_the_worker(threads: Any) -> None:
    made = threads(lambda record: FAILS)
    with pytest.raises(BundleError, match=r"^worker \d: there is no bundle$"):
        answered(5)
    for worker in [*made.alive]:
        worker.thread.join()
    assert not made.alive


def test_an_error_comes_in_the_place_of_its_record_and_no_further_record_is_read(threads: Any) -> None:
    threads(lambda record: FAILS if record is not None and record.index == 40 else "answers")
    given = records(10_000)
    results = answers_of_workers(JOB, [Share(1)] * 2, given)
    assert [next(results)[0].index for _ in range(40)] == list(range(40))
    with pytest.raises(PromptError, match=r"^record 40 in worker \d: no$"):
        next(results)
    assert next(given).index < 200


def test_as_many_records_are_at_hand_as_workers_have_room_for_and_no_more_wait_for_their_turn(threads: Any) -> None:
    """The first record is answered last: others wait for it, in bounds."""
    release = threading.Event()

    def does(record: Record | None) -> str:
        if record is not None and record.index == 0:
            release.wait(PATIENCE)
        return "answers"

    taken: list[int] = []

    def counted() -> Iterator[Record]:
        for record in records(10_000):
            taken.append(record.index)
            if len(taken) == limit:
                release.set()
            yield record

    room = threads_of(JOB.config, JOB.batch_size)
    limit = WINDOW * room * 2
    made = threads(does)
    results = answers_of_workers(JOB, [Share(1)] * 2, counted())
    assert next(results)[0].index == 0
    assert len(taken) == limit
    results.close()
    for worker in [*made.alive]:
        worker.thread.join()
    assert not made.alive


def test_workers_that_still_load_when_all_is_done_are_ended(threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LAST_SECONDS", PATIENCE)
    made = threads(lambda record: "answers")
    work = made.work

    def loading(worker: Any, pipe: Any) -> None:
        if worker.number == 0:
            work(worker, pipe)
            return
        with contextlib.suppress(EOFError, OSError):
            while True:
                pipe.recv()
        made.alive.discard(worker)

    made.work = loading
    assert answered(1) == [0]
    assert not made.alive


def test_a_result_does_not_wait_for_records_that_take_long_to_come(threads: Any) -> None:
    seen: list[int] = []
    made = threads(lambda record: "answers")

    def slow() -> Iterator[Record]:
        first, second, third = records(3)
        yield first
        while not made.sent:
            time.sleep(0.001)
        yield second
        assert seen[:1] == [0]
        yield third

    for record, _ in answers_of_workers(JOB, [Share(1)], slow()):
        seen.append(record.index)
    assert seen == [0, 1, 2]


def test_whoever_drops_the_results_ends_the_workers(threads: Any) -> None:
    made = threads(lambda record: WAITS if record is not None and record.index > 3 else "answers")
    results = answers_of_workers(JOB, [Share(1)] * 2, records(99))
    assert next(results)[0].index == 0
    results.close()
    for worker in [*made.alive]:
        worker.thread.join()
    assert not made.alive


def test_the_first_worker_loads_before_the_others_where_they_share_what_it_saves(threads: Any, tmp_path: Any) -> None:
    going: list[int] = []
    made = threads(lambda record: "answers")
    work = made.work

    def noted(worker: Any, pipe: Any) -> None:
        assert pipe.poll(PATIENCE)
        going.append(worker.number)
        assert len(going) == 1 or going[0] == 0
        work(worker, pipe)

    made.work = noted
    assert answered(50, folder=tmp_path) == list(range(50))
    assert sorted(going) == [0, 1, 2]
