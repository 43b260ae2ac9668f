"""How CPUs are divided among workers: whole cores, within one node's memory wherever there are enough workers.

Knows numbers; starts nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Cpu", "Share", "described", "divided"]


@dataclass(frozen=True)
class Cpu:
    """A CPU by its number; ``node`` is that of its memory (NUMA), ``core`` the first CPU of its core."""

    number: int
    node: int
    core: int

    @property
    def place(self) -> tuple[int, int, int]:
        """Its place in an order that keeps nodes and cores together."""
        return self.node, self.core, self.number


@dataclass(frozen=True)
class Share:
    """What one worker has: how many threads its runs take, and the CPUs that it is bound to; None: it is not bound."""

    threads: int
    cpus: tuple[int, ...] | None = None


def divided(cpus: Sequence[Cpu], workers: int, *, quota: float, bind: bool) -> tuple[Share, ...]:
    """Divide CPUs among ``workers``; ``quota`` is how many of them the process may use at a time, infinity: all.

    Where there is a CPU for each, a worker is bound to CPUs of its own. It gets whole cores, and those of one node
    unless there are fewer workers than nodes; with several nodes of other sizes, workers have different numbers.

    A quota of fewer CPUs than there are is time on any of them: then workers share its threads, and are bound to a
    node at most, since other processes may keep some of its CPUs busy. Neither are they bound to single CPUs where
    there are more workers than CPUs; each has a thread of its own all the same. ``bind`` False binds none.
    """
    budget = max(1, int(min(quota, len(cpus))))
    nodes = _grouped(cpus, lambda cpu: cpu.node)
    if bind and budget == len(cpus) and workers <= len(cpus):
        return tuple(Share(len(each), each) for each in _own(nodes, workers))
    threads = [max(1, budget // workers + (i < budget % workers)) for i in range(workers)]
    homes = _homes(nodes, workers) if bind and 1 < len(nodes) <= workers else [None] * workers
    if any(home is not None and len(home) < count for home, count in zip(homes, threads, strict=True)):
        homes = [None] * workers
    return tuple(Share(count, home) for count, home in zip(threads, homes, strict=True))


def described(shares: Sequence[Share]) -> str:
    """Say how many workers there are, with how many threads, and where they run."""
    threads = sorted({share.threads for share in shares})
    count = f"{threads[0]}" if len(threads) == 1 else f"{threads[0]} to {threads[-1]}"
    told = f"{len(shares)} workers of {count} thread{'' if threads[-1] == 1 else 's'}"
    lists = [_listed(share.cpus) for share in shares if share.cpus is not None]
    return f"{told}, on CPUs {'; '.join(lists)}" if lists else f"{told}, not bound to CPUs"


def _own(nodes: Sequence[list[Cpu]], workers: int) -> list[tuple[int, ...]]:
    """CPUs of its own for each worker."""
    if workers < len(nodes):
        return [_numbers(itertools.chain.from_iterable(part)) for part in _cut(nodes, workers)]
    shares = []
    for node, count in zip(nodes, _workers_of(nodes, workers), strict=True):
        cores = _grouped(node, lambda cpu: cpu.core)
        pieces = cores if count <= len(cores) else [[cpu] for cpu in node]
        shares += [_numbers(itertools.chain.from_iterable(part)) for part in _cut(pieces, count)]
    return shares


def _homes(nodes: Sequence[list[Cpu]], workers: int) -> list[tuple[int, ...] | None]:
    """All CPUs of a node for each worker."""
    counts = _workers_of(nodes, workers)
    return [_numbers(node) for node, count in zip(nodes, counts, strict=True) for _ in range(count)]


def _workers_of(nodes: Sequence[list[Cpu]], workers: int) -> list[int]:
    """How many workers each node has: one at least, and each further one where there are most CPUs for a worker."""
    counts = [1] * len(nodes)
    for _ in range(workers - len(nodes)):
        most = max(range(len(nodes)), key=lambda i: len(nodes[i]) / counts[i])
        counts[most] += 1
    return counts


def _cut(pieces: Sequence[list[Cpu]], count: int) -> list[Sequence[list[Cpu]]]:
    """Cut a row of pieces into so many parts, none of them empty, with as equal numbers of CPUs as can be."""
    ends = list(itertools.accumulate(map(len, pieces)))
    cuts = [0]
    for i in range(1, count):
        goal = ends[-1] * i / count
        possible = range(cuts[-1] + 1, len(pieces) - (count - i) + 1)
        cuts.append(min(possible, key=lambda k: abs(ends[k - 1] - goal)))
    return [pieces[start:stop] for start, stop in itertools.pairwise([*cuts, len(pieces)])]


def _grouped(cpus: Sequence[Cpu], key: Callable[[Cpu], Hashable]) -> list[list[Cpu]]:
    """CPUs with the same key together, in the order of their places."""
    return [list(group) for _, group in itertools.groupby(sorted(cpus, key=lambda cpu: cpu.place), key)]


def _numbers(cpus: Iterable[Cpu]) -> tuple[int, ...]:
    return tuple(sorted(cpu.number for cpu in cpus))


def _listed(numbers: Sequence[int]) -> str:
    """Numbers as Linux lists them: "0-3,8"."""
    runs = itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for _, group in runs if (run := list(group))]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)
