"""The CPUs that this process may use: which memory each is near to, and which of them are one core's.

Knows Linux's files; elsewhere there is a number of CPUs, and nothing is known about them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from ..backend import available_cpus, cgroup_quota, checked_threads, thread_limit
from ..errors import ConfigError
from .placement import Cpu, Share, divided

__all__ = ["listed_cpus", "shares_here", "suited_workers", "usable_cpus"]

SYSTEM = Path("/sys/devices/system")
SIBLINGS = ("core_cpus_list", "thread_siblings_list")  # of one core, by today's name and by an earlier one


def shares_here(workers: int, num_threads: int | None = None) -> tuple[Share, ...]:
    """What each of so many workers has of this machine: of the process's CPUs, its container's quota, and threads.

    ``num_threads`` are those of each worker where its CPUs are not to say it.

    Raises ConfigError for more workers than the system lets it have threads, and what `checked_threads` does.
    """
    most = thread_limit()
    if not 1 <= workers <= most:
        raise ConfigError(
            f"workers is {workers}; it must be at least 1, and {most} at most on this machine: one for each few CPUs, "
            f"of which there are {available_cpus()} here"
        )
    threads = None if num_threads is None else checked_threads(num_threads)
    quota, known = min(cgroup_quota(), most), usable_cpus()
    if known is None:
        shares = divided([Cpu(i, 0, i) for i in range(available_cpus())], workers, quota=quota, bind=False)
    else:
        shares = divided(known, workers, quota=quota, bind=True)
    return shares if threads is None else tuple(dataclasses.replace(share, threads=threads) for share in shares)


def suited_workers(*, throughput: bool = False) -> int:
    """How many workers suit the machine: one for each node that has its own memory.

    For throughput two at least, if there is a CPU for each: one computes while the other chooses tokens, reads and
    writes. A single answer takes longer so, and the second worker takes memory.
    """
    known = usable_cpus()
    nodes = 1 if known is None else len({cpu.node for cpu in known})
    return min(max(nodes, 2 if throughput else 1), available_cpus())


def usable_cpus(system: Path = SYSTEM) -> tuple[Cpu, ...] | None:
    """The CPUs of this process's affinity, in the order of `Cpu.place`; None where no process can be bound to any."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = os.sched_getaffinity(0)
    nodes = {number: node for node, numbers in _nodes(system) for number in numbers}
    found = [Cpu(number, nodes.get(number, 0), _core(number, allowed, system)) for number in allowed]
    return tuple(sorted(found, key=lambda cpu: cpu.place))


def listed_cpus(text: str) -> list[int]:
    """The numbers in a list as Linux writes it, "0-3,8-11"; what is no list has none."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.isascii() and end.isdigit() for end in ends):
            return []
        numbers += range(int(ends[0]), int(ends[-1]) + 1)
    return numbers


def _nodes(system: Path) -> Iterable[tuple[int, list[int]]]:
    for folder in (system / "node").glob("node[0-9]*"):
        name = folder.name.removeprefix("node")
        if name.isdecimal():
            yield int(name), _read(folder / "cpulist")


def _core(number: int, allowed: Iterable[int], system: Path) -> int:
    """The first CPU of a CPU's core, of those that the process may use."""
    folder = system / "cpu" / f"cpu{number}" / "topology"
    siblings = next((found for name in SIBLINGS if (found := _read(folder / name))), [number])
    return min(set(siblings) & {*allowed, number})


def _read(file: Path) -> list[int]:
    try:
        return listed_cpus(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return []
