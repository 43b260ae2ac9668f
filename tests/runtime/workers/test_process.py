"""Worker processes: where they run, what they hear, and that none outlives the process that started it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from neort import BundleError, EngineError, OutOfMemoryError
from neort.workers import Worker, ending_in_words, failure, in_words
from patience import PATIENCE
from processes import running
from worker_functions import tell_about_itself

POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
LAST_CPU = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


@contextmanager
def worker(value: int = 0, cpus: list[int] | None = None) -> Iterator[tuple[Worker, Any]]:
    """A worker, and what it has said about itself."""
    started = Worker(1, tell_about_itself, (value,), cpus)
    try:
        assert started.pipe.poll(PATIENCE)
        yield started, started.pipe.recv()
    finally:
        started.kill()
        assert started.wait(PATIENCE)
        started.close()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to CPUs")
def test_a_worker_runs_on_its_cpus_and_its_parent_stays_on_its_own() -> None:
    before = os.sched_getaffinity(0)
    with worker(7, [LAST_CPU]) as (started, (cpus, _, value)):
        assert (cpus, value) == ([LAST_CPU], 7)
        assert os.sched_getaffinity(0) == before
        started.tell(5)
        assert started.wait(PATIENCE)
        assert ending_in_words(started.status) == "ended with exit status 5"
        assert str(started) == f"worker 1 (process {started.pid})"


@POSIX_ONLY
def test_signals_are_the_parent_s_and_only_sigkill_ends_a_worker() -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with worker() as (started, (_, ignored, _)):
        assert ignored
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(started.pid, number)
        assert started.status is None
        os.kill(started.pid, signal.SIGKILL)
        assert started.wait(PATIENCE)
        assert ending_in_words(started.status) == "was ended by SIGKILL"
        with pytest.raises(EOFError):
            started.pipe.recv()
        started.tell("it is not there any more")


def test_what_a_worker_prints_or_raises_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with worker() as (started, _):
        started.tell("raise")
        assert started.wait(PATIENCE)
        assert started.status == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("this goes to standard error\n")
    assert "Traceback" in err
    assert err.endswith("ValueError: as it was told\n")


PARENT = """
import sys
from neort.workers import Worker
from worker_functions import tell_about_itself
if __name__ == "__main__":
    worker = Worker(0, tell_about_itself, (0,), None)
    worker.pipe.recv()
    print("ready", flush=True)
    sys.stdin.read()
"""


@POSIX_ONLY
def test_a_worker_ends_with_its_parent_whatever_ends_that() -> None:
    """What tracks their resources has the same pipe, and lives as long as either of them does."""
    with running(PARENT) as parent:
        assert parent.stdout is not None
        parent.send_signal(signal.SIGKILL)
        assert parent.stdout.read() == b""  # it ends once nobody has the pipe any more


def test_an_error_of_neort_s_keeps_its_kind_and_any_other_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    class SpecialError(BundleError, FileNotFoundError):
        pass

    told = failure("worker 3", *in_words(SpecialError("no bundle")))
    assert type(told) is BundleError
    assert str(told) == "worker 3: no bundle"
    assert type(failure("worker 3", *in_words(MemoryError()))) is OutOfMemoryError
    assert capsys.readouterr().err == ""
    found = failure("worker 3", *in_words(KeyError("x")))
    assert type(found) is EngineError
    assert "it failed with KeyError, whose traceback is above" in str(found)
    assert "KeyError: 'x'" in capsys.readouterr().err


def test_where_the_system_starts_no_process_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", refuse)
    with pytest.raises(EngineError, match=r"no further process \(Resource temporarily unavailable\); give fewer"):
        Worker(0, tell_about_itself, (0,), None)
