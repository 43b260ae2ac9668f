"""The engine's thread: who waits for it, what interrupts it, and what ends it. With a runner of lists."""

from __future__ import annotations

import functools
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import neort
from fakes import CHUNK, FakeRunner, Sink, alone, drive, make, run_threads
from neort import EngineError, Model
from neort.arrays import Ids, Logits
from neort.engine import Engine, EngineCore, Request
from patience import PATIENCE


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def engine(runner: FakeRunner) -> Engine:
    return Engine(EngineCore(runner, prefill_chunk=CHUNK))


def submit(engine: Engine, prompt: Sequence[int], **options: Any) -> tuple[Request, Sink]:
    request, sink = make(prompt, **options)
    engine.submit(request)
    return request, sink


# Callers


def test_no_thread_is_started_before_the_first_request(engine: Engine) -> None:
    assert not engine._worker.serves


def test_requests_of_several_threads_get_the_tokens_they_get_alone(engine: Engine) -> None:
    def run(token: int) -> None:
        for _ in range(20):
            request, sink = submit(engine, [token], max_new_tokens=25, seed=token, do_sample=True)
            engine.next_event(sink.events)
            expected = alone([token], max_new_tokens=25, seed=token, do_sample=True)
            assert request.token_ids == expected.token_ids

    run_threads(*(functools.partial(run, token) for token in (1, 2, 3, 4, 5, 6)))
    engine.settle()
    assert (engine.running, list(engine.waiting)) == ([], [])


def test_a_cancelled_request_has_left_its_slot_when_the_engine_has_settled(engine: Engine) -> None:
    request, _ = submit(engine, [1], max_new_tokens=10**6, overflow="truncate_left")
    engine.cancel(request)
    engine.settle()
    assert (engine.running, list(engine.waiting)) == ([], [])


def test_a_question_that_nobody_waits_for_any_more_is_not_answered_to_its_end(
    engine: Engine, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*_: object) -> None:
        assert first_chunk.wait(timeout=PATIENCE)
        raise KeyboardInterrupt

    def wait_for_the_caller_to_go() -> None:
        first_chunk.set()
        assert gone.wait(timeout=PATIENCE)

    first_chunk, gone = threading.Event(), threading.Event()
    runner.before_prefill = wait_for_the_caller_to_go
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_wait", leave)
        with pytest.raises(KeyboardInterrupt):
            engine.logits(np.arange(4 * CHUNK, dtype=np.int64))
    gone.set()
    engine.settle()
    assert len(runner.runs("prefill")) == 1


def test_a_request_from_within_a_step_is_refused(engine: Engine, runner: FakeRunner) -> None:
    errors: list[EngineError] = []

    def nest() -> None:
        for use in (lambda: submit(engine, [2]), lambda: engine.logits(np.arange(2)), engine.settle):
            with pytest.raises(EngineError, match="within its own step") as raised:
                use()
            errors.append(raised.value)

    runner.before_prefill = nest
    request, sink = submit(engine, [1], max_new_tokens=3)
    engine.next_event(sink.events)
    assert len(errors) == 3
    assert request.token_ids == alone([1], max_new_tokens=3).token_ids


# Failures


def test_an_error_of_a_prefill_ends_its_own_request_only(engine: Engine, runner: FakeRunner) -> None:
    def fail_on_the_second() -> None:
        if len(runner.runs("prefill")) == 3:
            raise RuntimeError("out of cheese")

    runner.before_prefill = fail_on_the_second
    made = [submit(engine, [token] * (CHUNK + 1), max_new_tokens=5) for token in (1, 2, 3)]
    for _, sink in made:
        engine.next_event(sink.events)
    assert [[str(error) for error in sink.errors] for _, sink in made] == [[], ["out of cheese"], []]
    for token, (request, _) in ((1, made[0]), (3, made[2])):
        assert request.token_ids == alone([token] * (CHUNK + 1), max_new_tokens=5).token_ids


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_run_of_several_prompts_that_fails_is_tried_again_with_each_by_itself(
    engine: Engine, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    def prefill_prompts(*_: object) -> Logits:
        raise MemoryError("too large")

    def prefill(slot: int, ids: Ids, start: int, logits_to_keep: int) -> Logits:
        if ids[0] == place:
            raise MemoryError("still too large")
        return original(slot, ids, start, logits_to_keep)

    original = runner.prefill
    monkeypatch.setattr(runner, "prefill_prompts", prefill_prompts)
    monkeypatch.setattr(runner, "prefill", prefill)
    made = [make([token], max_new_tokens=5) for token in (0, 1, 2)]
    for request, _ in made:
        engine.core.submit(request)
    for token, (request, sink) in enumerate(made):
        drive(engine.core, request)
        if token == place:
            assert [type(error) for error in sink.errors] == [neort.OutOfMemoryError]
        else:
            assert request.token_ids == alone([token], max_new_tokens=5).token_ids


def test_what_fails_for_no_request_is_tried_again(engine: Engine, runner: FakeRunner) -> None:
    failures = [OSError("once")]

    def fail_once() -> None:
        if failures:
            raise failures.pop()

    runner.before_release = fail_once
    request, sink = submit(engine, [1], max_new_tokens=5)
    other, other_sink = submit(engine, [2], max_new_tokens=9)
    for each in (sink, other_sink):
        engine.next_event(each.events)
    engine.settle()
    assert (failures, request.token_ids) == ([], alone([1], max_new_tokens=5).token_ids)
    assert other.token_ids == alone([2], max_new_tokens=9).token_ids


def test_what_fails_again_and_again_ends_every_request_and_not_the_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("for ever")

    with monkeypatch.context() as patch:
        patch.setattr(engine.core.scheduler, "next_request", fail)
        made = [submit(engine, [token], max_new_tokens=5) for token in (1, 2)]
        for _, sink in made:
            engine.next_event(sink.events)
            assert [str(error) for error in sink.errors] == ["for ever"]
    request, sink = submit(engine, [3], max_new_tokens=5)
    engine.next_event(sink.events)
    assert request.token_ids == alone([3], max_new_tokens=5).token_ids


def test_a_thread_that_dies_is_replaced(engine: Engine, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neort.engine.engine.HEARTBEAT", 0.01)
    died = threading.Event()
    original = engine._worker._work

    def die() -> None:
        if not died.is_set():
            died.set()
            raise SystemExit
        original()

    monkeypatch.setattr(engine._worker, "_work", die)
    request, sink = submit(engine, [1], max_new_tokens=5)
    engine.next_event(sink.events)
    assert died.is_set()
    assert request.token_ids == alone([1], max_new_tokens=5).token_ids


# The end


def test_the_thread_ends_with_its_engine() -> None:
    engine = Engine(EngineCore(FakeRunner(), prefill_chunk=CHUNK))
    _, sink = submit(engine, [1], max_new_tokens=2)
    engine.next_event(sink.events)
    serving, core = engine._worker._serving, weakref.ref(engine.core)
    assert serving.locked()
    del engine
    gc.collect()
    assert serving.acquire(timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while core() is not None and time.monotonic() < deadline:
        gc.collect()
    assert core() is None


def test_who_waits_when_the_engine_is_closed_gets_an_error(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neort.engine.engine.HEARTBEAT", 0.01)
    _, sink = submit(engine, [1], max_new_tokens=10**6, overflow="truncate_left")
    engine.close()
    for use in (lambda: engine.next_event(sink.events), lambda: submit(engine, [1])):
        with pytest.raises(EngineError, match="the interpreter ends"):
            use()


def run_python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "thread"])
def test_the_interpreter_ends_while_a_thread_generates(daemon: bool) -> None:
    done = run_python(
        f"""
        import threading, neort
        model = neort.load(num_threads=2)
        started = threading.Event()
        def work():
            for piece in model.stream("The", max_new_tokens=400):
                started.set()
            print("done", flush=True)
        threading.Thread(target=work, daemon={daemon}).start()
        started.wait()
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert daemon or done.stdout == "done\n"


def test_a_handler_at_the_interpreters_end_may_generate() -> None:
    done = run_python(
        """
        import atexit, neort
        model = neort.load(num_threads=1)
        model.generate("The", max_new_tokens=2)
        atexit.register(lambda: print(len(model.generate("The", max_new_tokens=5).token_ids)))
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")


# Signals


@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="needs signal timers")
def test_a_signal_handler_may_use_the_model_while_its_thread_generates() -> None:
    done = run_python(
        """
        import signal, neort
        model = neort.load(num_threads=1)
        inner = []
        signal.signal(signal.SIGALRM, lambda *_: inner.append(model.generate("The", max_new_tokens=3).token_ids))
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        outer = model.generate("The", max_new_tokens=400).token_ids
        while not inner:
            signal.pause()
        print(len(outer), inner == [outer[:3]])
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "400 True\n", "")


# Forks and pickles

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
FORK = """
    import os, sys, threading, warnings
    import neort
    warnings.simplefilter("ignore")
    def in_child(work):
        pid = os.fork()
        if pid == 0:
            try:
                work()
            except BaseException as error:
                print(type(error).__name__, error)
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    model = neort.load(num_threads=int(sys.argv[1]), draft="prompt-lookup")
"""


@needs_fork
@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_child_that_was_forked_while_the_model_was_idle_generates_as_its_parent_does(num_threads: int) -> None:
    """And ends: onnxruntime would wait for threads that it does not have."""
    done = run_python(
        FORK
        + """
    text = model.generate("The captain", max_new_tokens=9).text
    in_child(lambda: print(model.generate("The captain", max_new_tokens=9).text == text, flush=True))
    in_child(lambda: print(model.generate("The captain", max_new_tokens=9).text == text, flush=True))
    in_child(lambda: None)
    in_child(lambda: globals().pop("model"))
    print(model.generate("The captain", max_new_tokens=9).text == text)
    """,
        str(num_threads),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\nTrue\nTrue\n", "")


@needs_fork
def test_a_child_that_was_forked_in_the_middle_of_a_step_says_so() -> None:
    done = run_python(
        FORK
        + """
    inside, forked = threading.Event(), threading.Event()
    def wait(ids, logits):
        inside.set()
        forked.wait()
        return logits
    other = threading.Thread(target=lambda: model.generate("The", max_new_tokens=1, logits_processor=[wait]))
    other.start()
    inside.wait()
    in_child(lambda: model.generate("The", max_new_tokens=1))
    forked.set()
    other.join()
    in_child(lambda: print(len(model.generate("The", max_new_tokens=4).token_ids), flush=True))
    """,
        "1",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("EngineError this process was forked while its parent was generating")
    assert done.stdout.endswith("\n4\n")


def test_pickling_a_model_says_what_to_do_instead(model: Model) -> None:
    with pytest.raises(neort.ArgumentTypeError, match=r"send the path of its bundle, and call neort\.load there"):
        pickle.dumps(model)
