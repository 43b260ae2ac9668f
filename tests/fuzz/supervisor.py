"""Runs thousands of cases in other processes, and lives through whatever these die of.

A worker calls `serve` with a function of a case's number. `supervise` starts workers, hands them numbers one at a time,
and gives every case an outcome: what the function returned, or that the process ended by a signal, exited, or did not
answer in time; then the worker is replaced. What Python's faulthandler wrote comes with such a case.

Knows processes; knows nothing about what a case does.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

__all__ = ["HANG", "NOISE", "TRACEBACK", "Result", "limit_memory", "run_command", "serve", "supervise", "table"]

TRACEBACK = "traceback"  # the function raised
NOISE = "noise on stdout"
HANG = "hang"
GRACE_SECONDS = 10.0  # for a worker that was asked to say where it hangs
START_SECONDS = 600.0  # for a worker that imports and prepares
DETAIL = 4000  # characters of what faulthandler wrote


@dataclass(frozen=True)
class Result:
    """What became of one case; ``detail`` is for a person who reads it."""

    case: int
    kind: str
    outcome: str
    detail: str
    seconds: float


# The worker's side


def serve(run: Callable[[int], tuple[str, str, str]]) -> None:
    """Answer the numbers on standard input, one a line, until it ends.

    ``run`` returns a case's kind, outcome and detail. What it writes to standard output counts as an outcome.
    """
    faulthandler.enable()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    noise = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
    os.dup2(noise.fileno(), sys.stdout.fileno())
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        begun = time.perf_counter()
        kind, outcome, detail = run(int(line))
        seconds = time.perf_counter() - begun
        sys.stdout.flush()
        if size := noise.tell():
            noise.seek(0)
            outcome, detail = NOISE, noise.read(size).decode("utf-8", "replace")
            noise.seek(0)
            noise.truncate()
        _answer(answers, {"kind": kind, "outcome": outcome, "detail": detail, "seconds": seconds})


def _answer(stream: IO[str], content: dict[str, Any]) -> None:
    stream.write(json.dumps(content) + "\n")
    stream.flush()


# The supervisor's side


class _Worker:
    """One process that serves, with a thread that reads its answers."""

    def __init__(self, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, encoding="utf-8"
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if self._next(START_SECONDS) is None:
            raise RuntimeError(f"{command} does not start: {self.end()}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _next(self, seconds: float) -> dict[str, Any] | None:
        """The next answer; None where the process has ended. Raises queue.Empty when it takes too long."""
        line = self._answers.get(timeout=seconds)
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def ask(self, case: int, seconds: float) -> tuple[Result, bool]:
        """A case's result, and whether the worker lives on."""
        assert self._process.stdin is not None
        begun = time.perf_counter()
        try:
            self._process.stdin.write(f"{case}\n")
            self._process.stdin.flush()
            answer = self._next(seconds)
        except queue.Empty:
            self._process.send_signal(getattr(signal, "SIGABRT", signal.SIGTERM))  # faulthandler says where it is
            return Result(case, "", HANG, self.end(), time.perf_counter() - begun), False
        except BrokenPipeError:
            answer = None
        if answer is None:
            detail = self.end()
            code = self._process.returncode
            outcome = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
            return Result(case, "", outcome, detail, time.perf_counter() - begun), False
        return Result(case, **answer), True

    def end(self) -> str:
        """Let the process end, by force if it must be; returns the end of what it wrote to standard error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace")
        self._errors.close()
        return text[-DETAIL:]


def supervise(
    command: Sequence[str], cases: Iterable[int], *, seconds: float, processes: int = 1, kind_of: Callable[[int], str]
) -> Iterator[Result]:
    """Run each case in one of ``processes`` workers, which ``command`` starts; results come as they are ready.

    A case that takes longer than ``seconds`` is a hang. ``kind_of`` names the kind of a case whose worker cannot any
    more.
    """
    waiting = collections.deque(cases)
    results: queue.SimpleQueue[Result | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        worker: _Worker | None = None
        try:
            while waiting:
                try:
                    case = waiting.popleft()
                except IndexError:  # another thread was faster
                    break
                worker = worker or _Worker(command)
                result, alive = worker.ask(case, seconds)
                results.put(result)
                worker = worker if alive else None
        except BaseException as error:  # raised where the results are read
            results.put(error)
        finally:
            if worker is not None:
                worker.end()
            results.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(processes)]
    for thread in threads:
        thread.start()
    running = processes
    try:
        while running:
            result = results.get()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield (
                    result
                    if result.kind
                    else Result(result.case, kind_of(result.case), result.outcome, result.detail, result.seconds)
                )
    finally:
        waiting.clear()
        for thread in threads:
            thread.join()


def table(results: Iterable[Result]) -> str:
    """Kinds of cases by outcomes, in Markdown, with the longest time of each kind and a line of sums."""
    rows: dict[str, collections.Counter[str]] = {}
    longest: dict[str, float] = {}
    for result in results:
        rows.setdefault(result.kind, collections.Counter())[result.outcome] += 1
        longest[result.kind] = max(longest.get(result.kind, 0.0), result.seconds)
    sums: collections.Counter[str] = collections.Counter()
    for counts in rows.values():
        sums.update(counts)
    outcomes = sorted(sums)
    lines = [["kind", *outcomes, "cases", "longest, s"], ["---", *["---:"] * (len(outcomes) + 2)]]
    for kind, counts in [*sorted(rows.items()), ("**all**", sums)]:
        most = longest.get(kind, max(longest.values(), default=0.0))
        lines.append([kind, *(str(counts[name] or "") for name in outcomes), str(counts.total()), f"{most:.2f}"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# What the fuzzers' commands share


def limit_memory(address_space: int) -> None:
    """Let this process have so many bytes of addresses, where there are such limits."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    except (ImportError, ValueError, OSError):
        pass


def run_command(
    description: str | None,
    cases: int,
    work: Callable[[], None],
    run_cases: Callable[[range, int], Iterable[Result]],
    unexpected: Callable[[list[Result]], list[Result]],
) -> int:
    """Run the cases that the command line names, ``cases`` by default, and print the table.

    What ``unexpected`` picks is told as it comes; 1 where there is any. With ``--serve`` the process is a worker.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cases", type=int, default=cases, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one's number")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        work()
        return 0
    results = []
    for result in run_cases(range(args.first, args.first + args.cases), args.processes):
        results.append(result)
        if unexpected([result]):
            sys.stderr.write(f"case {result.case}, {result.kind}: {result.outcome}\n{result.detail}\n\n")
    bad = unexpected(results)
    sys.stdout.write(f"{table(results)}\n{len(results)} cases, {len(bad)} that must not be\n")
    return int(bool(bad))
