"""Kills jobs of Ray Data at random moments, lets the same command go on, and compares what comes out with one process.

    python tests/faults/ray_faults.py [driver actor node stopped head] [--rounds 5] [--records 160] [--tokens 24]

    driver   kill -9 of the job's process, up to three times; the next one starts at once, while what is left of the
             dead one's cluster may still write
    actor    kill -9 of one of two actors with a model, up to three times; the job goes on by itself
    node     kill -9 of one node of two, with all that runs there; the job goes on, or else the same command does
    stopped  a node of two is stopped until Ray takes it for dead, and goes on when the job has ended
    head     kill -9 of the node with Ray's own state; the same command goes on in another cluster

Half of the moments are some time after the start, half are when a random part has just got its file. In the end every
record must be there once, with the bytes that one process writes, and nothing else but the job's facts. Prints a line
for each round; the exit status tells whether all of it held. Needs neort[ray]; Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support")]

from ray_jobs import (  # noqa: E402
    ACTOR,
    MODULE,
    environment,
    kill_marked,
    marked,
    one_process,
    results,
    with_children,
    write_prompts,
)

KILLS = 3  # of one round, at most
TRIES = 6  # commands that are given until one says that all is done
CPUS = 3  # of a node, as Ray counts them: for an actor with a model, for Ray's filter, and one to spare
SETTLING = 60.0  # seconds in which a node that is taken for dead ends itself
LOOK_EVERY = 0.002  # seconds
FACTS = "_run.json"
Process = subprocess.Popen[bytes]


@dataclass
class Task:
    """What is computed in every round, what must come of it, and how long it takes if nothing happens."""

    input: Path
    options: Sequence[str]
    expected: bytes
    seconds: float = 0.0


@dataclass
class Round:
    """One job, and what was done to it."""

    task: Task
    output: Path
    source: random.Random
    mark: str
    told: list[str] = field(default_factory=list)

    def start(self, *further: str) -> Process:
        """Run the command beside this process."""
        command = [sys.executable, "-m", MODULE, str(self.task.input), str(self.output), *self.task.options, *further]
        with self.output.with_name("log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment(self.mark))

    def parts(self) -> tuple[int, int]:
        """How many parts have a file, of how many; (0, 0) before the job has begun."""
        try:
            facts = json.loads((self.output / FACTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0, 0
        return len(list(self.output.glob("part-*"))), -(-facts["input"]["records"] // facts["records_per_file"])

    def moment(self, process: Process) -> bool:
        """Wait for a random moment; whether the job still runs then."""
        began, (before, _) = time.monotonic(), self.parts()
        delay = self.source.uniform(0, self.task.seconds) if self.source.random() < 0.5 else None
        share = self.source.random()
        while process.poll() is None:
            done, parts = self.parts()
            if delay is not None:
                come = time.monotonic() - began >= delay
            else:
                come = parts > 0 and done > before and done >= before + share * (parts - before)
            if come:
                when = f"{delay:.1f} s after the start" if delay is not None else "at a file"
                self.told.append(f"{when}, {done} of {parts or '?'} parts done")
                return True
            time.sleep(LOOK_EVERY)
        return False

    def go_on(self, process: Process | None = None, *further: str) -> None:
        """Let the job end, and give the command again until it says that all is done."""
        for _ in range(TRIES):
            process = process or self.start(*further)
            if process.wait() in (0, 1) and len(results(self.output)) >= len(self.task.expected):
                return
            self.told.append(f"ended with {process.returncode}, given once more")
            process = None

    def verdict(self) -> tuple[bool, str]:
        """Whether what came out is what one process writes, and in words."""
        found, expected = results(self.output).splitlines(), self.task.expected.splitlines()
        names = {file.name for file in self.output.iterdir() if not file.name.startswith("part-")}
        if found == expected and names == {FACTS}:
            return True, f"all {len(found)} records once, as one process writes them"
        twice, lost, others = len(found) - len(set(found)), set(expected) - set(found), set(found) - set(expected)
        return False, f"{len(lost)} lost, {twice} twice, {len(others)} others; beside them {sorted(names - {FACTS})}"


def driver(this: Round) -> None:
    """Kill the job's process; begin anew at once."""
    for _ in range(this.source.randint(1, KILLS)):
        process = this.start("--workers", "2", "--num-threads", "1")
        if this.moment(process):
            process.kill()
        process.wait()
    this.go_on(None, "--workers", "2", "--num-threads", "1")


def actor(this: Round) -> None:
    """Kill an actor; the same job ends."""
    process = this.start("--workers", "2", "--num-threads", "1")
    for _ in range(this.source.randint(1, KILLS)):
        if this.moment(process):
            actors = [each for each, name in marked(this.mark).items() if name.startswith(ACTOR)]
            this.told[-1] += f", of {len(actors)} actors one"
            if actors:
                _signal(this.source.choice(actors), signal.SIGKILL)
    this.go_on(process)


def node(this: Round) -> None:
    """Kill the second node of two, with all that it started."""
    with two_nodes() as (address, _, second):
        process = this.start("--address", address, "--workers", "2", "--num-threads", "1")
        if this.moment(process):
            this.told[-1] += f"; {_kill_node(second)} processes"
        this.go_on(process, "--address", address, "--workers", "1", "--num-threads", "1")


def stopped(this: Round) -> None:
    """Stop the second node, let it go on when the job is done, and write whatever it was about to."""
    with two_nodes() as (address, _, second):
        process = this.start("--address", address, "--workers", "2", "--num-threads", "1")
        if this.moment(process):
            every = _processes(second)
            for each in every:
                _signal(each, signal.SIGSTOP)
            this.go_on(process, "--address", address, "--workers", "1", "--num-threads", "1")
            for each in every:
                _signal(each, signal.SIGCONT)
            this.told[-1] += f"; {len(every)} processes, of which {len(_alive(every))} went on"
            _wait_for_writers(every)
        this.go_on(None, "--address", address, "--workers", "1", "--num-threads", "1")


def head(this: Round) -> None:
    """Kill the first node of two, where Ray's own state is."""
    with two_nodes() as (address, first, _):
        process = this.start("--address", address, "--workers", "2", "--num-threads", "1")
        if this.moment(process):
            this.told[-1] += f"; {_kill_node(first)} processes"
            process.wait()
    with two_nodes() as (address, _, _):
        this.go_on(None, "--address", address, "--workers", "2", "--num-threads", "1")


KINDS: dict[str, Callable[[Round], None]] = {
    "driver": driver,
    "actor": actor,
    "node": node,
    "stopped": stopped,
    "head": head,
}


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[str, Any, Any]]:
    """A cluster of two nodes on this machine: its address and the nodes."""
    from ray.cluster_utils import Cluster

    cluster = _started(Cluster)
    try:
        second = cluster.add_node(num_cpus=CPUS)
        yield cluster.address, cluster.head_node, second
    finally:
        for each in list(cluster.list_all_nodes()):
            _kill_node(each)


def _started(kind: Any) -> Any:
    """A cluster of one node; Ray's processes give up on each other where a machine is busy."""
    for _ in range(TRIES):
        with contextlib.suppress(Exception):
            return kind(initialize_head=True, head_node_args={"num_cpus": CPUS})
    raise SystemExit("Ray does not start here")


def _kill_node(node: Any) -> int:
    """End all of a node's processes at once; how many there were."""
    every = _processes(node)
    for process in every:
        _signal(process, signal.SIGKILL)
    return len(every)


def _processes(node: Any) -> set[int]:
    own = [each.process.pid for several in node.all_processes.values() for each in several]
    return {child for process in own for child in with_children(process)}


def _signal(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _alive(processes: set[int]) -> set[int]:
    """Those that run, zombies left out."""
    return {each for each in processes if any(Path(f"/proc/{each}/task").glob("*/children"))}


def _wait_for_writers(processes: set[int]) -> None:
    """Wait until the processes of a node that is taken for dead have found that out."""
    until = time.monotonic() + SETTLING
    while _alive(processes) and time.monotonic() < until:
        time.sleep(0.1)


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def prepared(folder: Path, args: argparse.Namespace) -> Task:
    """The input, what one process makes of it, and the time that a job takes."""
    file, options = folder / "in.jsonl", ["--max-new-tokens", str(args.tokens), "--do-sample", "--seed", str(args.seed)]
    write_prompts(file, args.records, random.Random(args.seed))
    options += ["--bundle", str(args.bundle)]
    task = Task(file, options, one_process(file, folder / "one.jsonl", *options))
    whole = Round(task, folder / "whole" / "out", random.Random(0), f"{os.getpid()} whole")
    whole.output.parent.mkdir()
    began = time.monotonic()
    whole.go_on(None, "--workers", "2", "--num-threads", "1")
    task.seconds = time.monotonic() - began
    held, told = whole.verdict()
    tell(f"undisturbed: {task.seconds:.1f} s; {told}; {'' if held else 'NOT '}as it must be")
    return task


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=160)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", type=Path, default=ROOT / "tests" / "bundles" / "neo-mini")
    args = parser.parse_args()
    broken = 0
    with tempfile.TemporaryDirectory() as name:
        task = prepared(Path(name), args)
        for kind in args.kinds:
            for number in range(args.rounds):
                folder = Path(name, f"{kind}{number}")
                folder.mkdir()
                mark = f"{os.getpid()} {kind} {number}"
                this = Round(task, folder / "out", random.Random(f"{args.seed} {kind} {number}"), mark)
                os.environ |= environment(mark)  # of nodes that this process starts
                try:
                    KINDS[kind](this)
                    held, told = this.verdict()
                finally:
                    left = kill_marked(mark)
                broken += not held
                tell(f"{kind} {number}: {' | '.join(this.told)} -> {told}; {left} processes were left")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
