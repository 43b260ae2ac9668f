"""Makes calls of a model fail: by a signal, at a chosen line, or for want of memory.

    python tests/faults/sabotage.py interrupts --count 200000
    python tests/faults/sabotage.py lines
    python tests/faults/sabotage.py memory --count 2000

Each prints a table of what was tried and what came of it; the exit status tells whether all of it held.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import itertools
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from neort import NeortError
from neort.engine import Engine
from neort.engine import engine as engine_module
from scenarios import SCENARIOS, BrokenError, Subject, subjects

HANG_SECONDS = 120  # of one try; then the process dies with a traceback of every thread
ROUNDS = 25  # interrupts between two checks
NEORT = Path(engine_module.__file__).parents[1]
CRITICAL = {
    str(path)
    for path in [
        NEORT / "model.py",
        *(NEORT / "engine").glob("*.py"),
        *(NEORT / "kvcache").glob("*.py"),
        *(NEORT / "speculative").glob("*.py"),
        NEORT / "generation" / "chooser.py",
        NEORT / "backend" / "runner.py",
        NEORT / "backend" / "inputs.py",
    ]
}

Outcomes = collections.Counter[tuple[str, ...]]


class InjectedError(Exception):
    """An error of no kind that anyone expects."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Let what hangs within the block end the process."""
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def judge(subject: Subject, scenario: str, found: Any) -> str:
    """Say what a scenario that ended gave: what it should, or an error in the place of one sequence."""
    expected = subject.expected[scenario]
    if found == expected:
        return "the same tokens"
    if scenario == "several":
        wrong = [got for got, wanted in zip(found, expected, strict=True) if got != wanted]
        if len(wrong) == 1 and isinstance(wrong[0], BaseException):
            return "one sequence failed"
    raise BrokenError(f"{subject.name}, {scenario}: {found!r}, at first {expected!r}")


# Signals


def interrupts(count: int, seed: int) -> Outcomes:
    """Interrupt calls at random moments, as Ctrl-C does."""
    chance, outcomes = random.Random(seed), Outcomes()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = lambda _: None  # an interrupt within a finalizer is reported there, and ends nothing
    for subject in subjects():
        seconds = {scenario: _duration(subject, scenario) for scenario in SCENARIOS}
        for start in range(0, count // 4, ROUNDS):
            with guarded():
                subject.renew()
                for _ in range(min(ROUNDS, count // 4 - start)):
                    scenario = _pick(chance, seconds)
                    outcomes[subject.name, scenario, _interrupted(subject, scenario, chance, seconds)] += 1
                subject.check(_pick(chance, seconds))
            _show(f"{subject.name}: {start + ROUNDS:,} of {count // 4:,}")
    return outcomes


def _pick(chance: random.Random, seconds: dict[str, float]) -> str:
    """A scenario; each gets the same time, so that short ones come often."""
    return chance.choices([*seconds], [1 / each for each in seconds.values()])[0]


def _interrupted(subject: Subject, scenario: str, chance: random.Random, seconds: dict[str, float]) -> str:
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + chance.random() * seconds[scenario] * 1.1)
            found = SCENARIOS[scenario](subject.model)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return "interrupted"
    return judge(subject, scenario, found)


def _duration(subject: Subject, scenario: str) -> float:
    started = time.perf_counter()
    SCENARIOS[scenario](subject.model)
    return time.perf_counter() - started


# Lines


class Tracer:
    """Notes the lines of the critical modules that threads come by, and raises at one of them, once."""

    def __init__(self) -> None:
        self.caller = threading.current_thread()
        self.passed: collections.Counter[tuple[bool, str, int]] = collections.Counter()
        self.target: tuple[bool, str, int] | None = None
        self.left = 0
        self.error: BaseException = InjectedError()

    def follow(self, engine: Engine) -> None:
        """Trace the engine's thread, in what it is in the middle of, too."""
        engine._ask(lambda wanted: self._trace_thread())

    def start(self) -> None:
        """Trace this thread."""
        sys.settrace(self._call)

    def stop(self) -> None:
        sys.settrace(None)

    def _trace_thread(self) -> None:
        sys.settrace(self._call)
        frame = sys._getframe()
        while frame := frame.f_back:  # type: ignore[assignment]
            if frame.f_code.co_filename in CRITICAL:
                frame.f_trace = self._line

    def raise_at(self, target: tuple[bool, str, int], time: int, error: BaseException) -> None:
        """Raise ``error`` when a line is come by for the n-th time."""
        self.passed.clear()
        self.target, self.left, self.error = target, time, error

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line if frame.f_code.co_filename in CRITICAL else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            place = threading.current_thread() is self.caller, frame.f_code.co_filename, frame.f_lineno
            self.passed[place] += 1
            if place == self.target:
                self.left -= 1
                if self.left == 0:
                    self.target = None
                    raise self.error
        return self._line


def lines(count: int, seed: int) -> Outcomes:
    """Raise at every line of the critical modules, in callers and in the engine's thread; or at ``count`` of them."""
    chance, outcomes = random.Random(seed), Outcomes()
    sys.unraisablehook = lambda _: None
    engine_module.HEARTBEAT = 0.02  # seconds after which a thread that died is replaced
    tracer = Tracer()
    places = [place for subject in subjects() for place in _places(tracer, subject)]
    chance.shuffle(places)
    chosen = places[: count or None]
    for i, (subject, scenario, (in_caller, file, line), times) in enumerate(chosen):
        errors = [KeyboardInterrupt()] if in_caller else [MemoryError(), InjectedError()]
        for error, time_ in itertools.product(errors, {1, chance.randint(1, times)}):
            with guarded():
                subject.renew()
                tracer.follow(subject.model._engine)
                tracer.raise_at((in_caller, file, line), time_, error)
                outcome = _sabotaged(tracer, subject, scenario, f"{Path(file).name}:{line} ({time_}), {error!r}")
            where = "a caller" if in_caller else "the engine"
            outcomes[where, scenario, type(error).__name__, outcome] += 1
        _show(f"{i + 1:,} of {len(chosen):,} lines")
    return outcomes


def _places(tracer: Tracer, subject: Subject) -> Iterator[tuple[Subject, str, tuple[bool, str, int], int]]:
    """The lines that each scenario comes by, and how often."""
    for scenario, run in SCENARIOS.items():
        subject.renew()
        tracer.follow(subject.model._engine)
        tracer.passed.clear()
        tracer.start()
        run(subject.model)
        tracer.stop()
        subject.model._engine.settle()
        for place, times in sorted(tracer.passed.items()):
            yield subject, scenario, place, times


def _sabotaged(tracer: Tracer, subject: Subject, scenario: str, where: str) -> str:
    try:
        tracer.start()
        found = SCENARIOS[scenario](subject.model)
        tracer.stop()
        outcome = judge(subject, scenario, found)
    except (KeyboardInterrupt, InjectedError, MemoryError, NeortError) as error:
        tracer.stop()
        outcome = "the error" if isinstance(error, (NeortError, type(tracer.error))) else "MemoryError, not neort's"
    except BrokenError as error:
        raise BrokenError(f"{error} after {where}") from error
    finally:
        tracer.stop()
    if tracer.target is not None:
        outcome = "did not come by"
        tracer.target = None
    try:
        subject.check(scenario)
    except BaseException as error:
        raise BrokenError(f"{type(error).__name__}: {error} after {where} in {scenario} of {subject.name}") from error
    return outcome


# Memory


def memory(count: int, seed: int) -> Outcomes:
    """Take the system's memory away at random moments: from the call's start on, but for a few kilobytes."""
    import resource

    chance, outcomes = random.Random(seed), Outcomes()
    sys.unraisablehook = lambda _: None  # a thread that has no memory to begin with says so there
    engine_module.HEARTBEAT = 0.02  # seconds after which it is tried again
    for subject in subjects():
        for start in range(count // 4):
            with guarded():
                subject.renew()
                if chance.random() < 0.9:
                    subject.model._engine.settle()  # so that its thread is there
                scenario = chance.choice([*SCENARIOS])
                limit = _address_space() + int(2 ** chance.uniform(8, 25))
                try:
                    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
                    found = SCENARIOS[scenario](subject.model)
                except MemoryError as error:
                    outcome = "OutOfMemoryError" if isinstance(error, NeortError) else "MemoryError of the caller's"
                except NeortError as error:
                    outcome = type(error).__name__
                else:
                    outcome = ""
                finally:
                    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                outcomes[subject.name, scenario, outcome or _memory_judged(subject, scenario, found)] += 1
                subject.check(scenario)
            _show(f"{subject.name}: {start + 1:,} of {count // 4:,}")
    return outcomes


def _memory_judged(subject: Subject, scenario: str, found: Any) -> str:
    if scenario == "several":  # any number of them may have found no memory
        pairs = zip(found, subject.expected[scenario], strict=True)
        if all(got == wanted or isinstance(got, NeortError) for got, wanted in pairs):
            return "the same tokens" if found == subject.expected[scenario] else "some sequences failed"
    return judge(subject, scenario, found)


def _address_space() -> int:
    import resource

    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


# The command

KINDS = {"interrupts": interrupts, "lines": lines, "memory": memory}


def _show(progress: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{progress}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make calls of a model fail, and see whether it goes on.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=0, help="of tries; lines: 0 means all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    outcomes = KINDS[args.kind](args.count, args.seed)
    for what, number in sorted(outcomes.items()):
        sys.stdout.write(f"{number:8,}  {', '.join(what)}\n")
    sys.stdout.write(f"{sum(outcomes.values()):8,}  in all, and the model is sound after each\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
