"""How are requests spread among 1 to 64 workers, and what would other ways of spreading them cost? A simulation.

    python -m benchmarks.scaling.dispatch [--workers 1 2 4 8 16 32 64] [--load 0.8] [--requests 20000]

A server of N workers with --slots sequences each, and a queue of --queue for all of them, divided. Requests come at
random moments (Poisson); a sequence takes its own time in a slot (lognormal, the longest of them many times the
median). `least busy` is how neort hands connections over, by the code that does it; `random` is what becomes of
connections that the system deals out by their addresses (SO_REUSEPORT), `in turn` hands them round. `one process` has
all slots and one queue, which no dispatch can beat.

Metric: the share of requests that are refused (429), and how long the others wait for a slot, in mean times of a
sequence. Writes results/dispatch.json.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from neort.server.workers.member import Member, least_busy

from ..harness.arguments import script_parser
from ..harness.results import write_results

SPREAD = 1.0  # of the logarithm of a sequence's time
PERCENTILES = (0.5, 0.95, 0.99)


@dataclass
class Simulated:
    """A worker: what its parent knows of it, and its queue."""

    number: int
    slots: int
    places: int
    at_work: int = 0
    takes: bool = True
    untaken: tuple[()] = ()
    waiting: deque[tuple[float, float]] = field(default_factory=deque)

    burden, has_room = Member.burden, Member.has_room

    @property
    def open(self) -> int:
        """Connections: each brings one request."""
        return self.at_work


Choose = Callable[[list[Simulated], random.Random, int], Simulated]

WAYS: dict[str, Choose] = {
    "least busy": lambda workers, source, i: cast(Simulated, least_busy(cast(Any, workers))),
    "in turn": lambda workers, source, i: workers[i % len(workers)],
    "random": lambda workers, source, i: source.choice(workers),
}


def main() -> None:
    args = parse_args()
    rows = []
    for workers in args.workers:
        for way, choose in WAYS.items():
            rows.append({"workers": workers, "way": way, **simulated(workers, choose, args)})
            print(rows[-1], flush=True)
        one = argparse.Namespace(**{**vars(args), "slots": args.slots * workers})
        rows.append({"workers": workers, "way": "one process", **simulated(1, WAYS["in turn"], one)})
        print(rows[-1], flush=True)
    write_results("dispatch", {"load": args.load, "slots": args.slots, "queue": args.queue, "rows": rows})


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--slots", type=int, default=8, help="of each worker")
    parser.add_argument("--queue", type=int, default=64, help="of all workers")
    parser.add_argument("--load", type=float, default=0.9, help="sequences that come, of those that slots allow")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def simulated(count: int, choose: Choose, args: argparse.Namespace) -> dict[str, Any]:
    """The share of requests that so many workers refuse, and percentiles of the others' waits."""
    source, choosing = random.Random(args.seed), random.Random(args.seed + 1)
    workers = [Simulated(i, args.slots, -(-args.queue // count)) for i in range(count)]
    mean = 2.718281828 ** (SPREAD**2 / 2)
    rate = args.load * count * args.slots / mean
    ends: list[tuple[float, int, int]] = []  # when, a number that makes them differ, and whose
    numbers, now, refused, waits = itertools.count(), 0.0, 0, []
    for i in range(args.requests):
        now += source.expovariate(rate)
        while ends and ends[0][0] <= now:
            moment, _, whose = heapq.heappop(ends)
            worker = workers[whose]
            worker.at_work -= 1
            if worker.waiting:
                came, took = worker.waiting.popleft()
                waits.append(moment - came)
                heapq.heappush(ends, (moment + took, next(numbers), whose))
        worker, took = choose(workers, choosing, i), source.lognormvariate(0.0, SPREAD)
        if worker.at_work < worker.slots:
            waits.append(0.0)
            heapq.heappush(ends, (now + took, next(numbers), worker.number))
        elif len(worker.waiting) < worker.places:
            worker.waiting.append((now, took))
        else:
            refused += 1
            continue
        worker.at_work += 1
    waits.sort()
    found = {f"p{rank * 100:g}": round(waits[int(rank * (len(waits) - 1))] / mean, 4) for rank in PERCENTILES}
    return {"refused": round(refused / args.requests, 5), **found}


if __name__ == "__main__":
    main()
