"""Puts a server under load, and says how it did.

    python -m benchmarks.serving.load http://127.0.0.1:8000 [--clients 16] [--requests 100] [--rate 2.5]

In a closed loop each of N clients sends its next request when it has the answer to its last one; in an open loop
(--rate, requests per second at random times) requests come whether or not the server keeps up. TTFT is the time to the
first token, TPOT that between the first and the last one divided by the tokens after the first, ITL each gap by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import json
import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ..harness.arguments import script_parser
from .client import Address, Asked, Exchange, exchange
from .workload import LEAVING, UNSOUND, Lengths, endless, of_words

__all__ = ["closed_loop", "open_loop", "percentiles", "summary"]

SHARES = (50, 95, 99)


async def closed_loop(address: Address, requests: Iterable[Asked], clients: int, until: float = 0.0) -> list[Exchange]:
    """Let clients send what they take from ``requests``; to its end, or to a time of `time.perf_counter`."""
    source = iter(requests)
    found: list[Exchange] = []

    async def client() -> None:
        for asked in source:
            found.append(await exchange(address, asked))
            if until and time.perf_counter() > until:
                return

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


async def open_loop(address: Address, requests: Sequence[Asked], rate: float, seed: int = 0) -> list[Exchange]:
    """Send so many requests a second, the time between two of them exponentially distributed."""
    source = random.Random(seed)
    async with asyncio.TaskGroup() as group:
        tasks = []
        for asked in requests:
            tasks.append(group.create_task(exchange(address, asked)))
            await asyncio.sleep(source.expovariate(rate))
    return [task.result() for task in tasks]


def summary(found: Sequence[Exchange]) -> dict[str, Any]:
    """Rates and milliseconds of a load; times only of answers that came whole."""
    whole = [each for each in found if each.status == 200 and each.failure is None and not each.left and each.times]
    seconds = max(each.ended for each in found) - min(each.began for each in found)
    tokens = sum(len(each.times) for each in found)
    gaps = [after - before for each in whole for before, after in itertools.pairwise(each.times)]
    return {
        "requests": len(found),
        "statuses": dict(collections.Counter(str(each.status) for each in found)),
        "left": sum(each.left for each in found),
        "failures": sum(each.failure is not None for each in found),
        "unexpected": sum(not each.as_expected for each in found),
        "seconds": round(seconds, 3),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 2),
        "ttft_milliseconds": percentiles(each.times[0] - each.began for each in whole),
        "tpot_milliseconds": percentiles(
            (each.times[-1] - each.times[0]) / (len(each.times) - 1) for each in whole if len(each.times) > 1
        ),
        "itl_milliseconds": percentiles(gaps),
        "e2e_milliseconds": percentiles(each.ended - each.began for each in whole),
    }


def percentiles(seconds: Iterable[float]) -> dict[str, float]:
    """Milliseconds that so many per cent do not exceed, by nearest rank, and the largest; none of nothing."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    ranks = {f"p{share}": ordered[max(0, -(-share * len(ordered) // 100) - 1)] for share in SHARES}
    return {name: round(1000 * value, 2) for name, value in (ranks | {"max": ordered[-1]}).items()}


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--rate", type=float, help="requests per second, in an open loop")
    parser.add_argument("--model", help="the model's name, for servers that ask for one")
    parser.add_argument("--leaving", type=float, default=LEAVING, help="share of clients that leave early")
    parser.add_argument("--malformed", type=float, default=UNSOUND, help="share of malformed requests")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    options = {"model": args.model} if args.model else {}
    pool = of_words(args.seed, args.requests, Lengths(), **options)
    requests = list(itertools.islice(endless(pool, args.seed, args.leaving, args.malformed), args.requests))
    address = Address.of(args.url)
    run = open_loop(address, requests, args.rate) if args.rate else closed_loop(address, requests, args.clients)
    print(json.dumps(summary(asyncio.run(run)), indent=1))


if __name__ == "__main__":
    main()
