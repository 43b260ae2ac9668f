"""Does the server answer rightly, and give back all that it takes, under load for minutes?

    python -m benchmarks.serving.soak [BUNDLE] [--minutes 10] [--clients 64] [--distinct 256]

A pool of distinct requests (prompts and answers of mixed lengths; greedy, sampled with a seed, several choices, stop
words) is sent twice: each alone to the idle server, then at random by all clients at once, of whom 10 % leave at a
random event, with 5 % malformed requests between them. Every text that comes whole must be the one the request got
alone, a text that was left the beginning of it, every malformed request must get its status. When all is done no
sequence may run or wait, as many files must be open as before, and the memory may not have grown since the first tenth
of the load, when every cache has been filled, by more than --growth MB.

Writes results/soak-NAME.json: the percentiles, what the process held, and what was wrong. The exit status is 1 where
something was.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import dataclasses
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from neort.bundle import bundled_path

from ..harness.arguments import script_parser
from ..harness.results import write_results
from .client import Asked, Exchange
from .load import closed_loop, summary
from .servers import Held, Server, neort_command
from .workload import Lengths, endless, of_words

SETTLING = 20.0  # seconds in which what clients left must be given back
SHOWN = 20


def main() -> None:
    args = parse_args()
    with (
        TemporaryDirectory() as folder,
        Server(neort_command(args.bundle, args.option), log=Path(folder, "log")) as server,
    ):
        facts = soak(server, args)
        facts["exit_status"] = server.end()
    wrong = facts["wrong"] + ([f"the server ended with status {facts['exit_status']}"] if facts["exit_status"] else [])
    facts["wrong"] = wrong
    if args.name:
        write_results(f"soak-{args.name}", facts)
    print(*(f"{key}: {value}" for key, value in facts.items()), sep="\n")
    raise SystemExit(1 if wrong else 0)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", help="default: the bundled model")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--distinct", type=int, default=256, help="requests of the pool")
    parser.add_argument("--growth", type=float, default=48.0, help="MB of resident memory after the first tenth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="writes results/soak-NAME.json")
    parser.add_argument("--option", action="append", default=[], help="of neort serve, as --option=--max-queue=64")
    return parser.parse_args()


def soak(server: Server, args: argparse.Namespace) -> dict[str, Any]:
    """Alone, then under load; what was measured and what was wrong."""
    pool = of_words(args.seed, args.distinct, Lengths())
    fresh = server.held()
    alone = asyncio.run(closed_loop(server.address, pool, 1))
    expected = {id(each.asked.body): dict(each.texts) for each in alone}
    idle, seconds = server.held(), 60 * args.minutes
    requests = endless(pool, args.seed + 1)
    began = time.perf_counter()
    first = asyncio.run(closed_loop(server.address, requests, args.clients, began + seconds / 10))
    warm = settled(server, idle)
    found = first + asyncio.run(closed_loop(server.address, requests, args.clients, began + seconds))
    after = settled(server, idle)
    counted, shown = mistakes(found, expected)
    return {
        "bundle": (args.bundle or bundled_path()).name,
        "clients": args.clients, "minutes": args.minutes, "distinct": args.distinct,
        "load": summary(found),
        "compared": sum(each.status == 200 for each in found),
        "held": {name: dataclasses.asdict(held) for name, held in zip(
            ("fresh", "alone", "first tenth", "end"), (fresh, idle, warm, after), strict=True)},
        "mistakes": counted,
        "wrong": shown + [str(each.failure) for each in alone if not each.as_expected] + leaks(idle, warm, after, args),
    }  # fmt: skip


def settled(server: Server, before: Held) -> Held:
    """What the server holds once nothing runs and its files are as before, or after a while."""
    until = time.perf_counter() + SETTLING
    while True:
        held = server.held()
        quiet = held.running <= 0 and held.waiting <= 0 and held.files <= before.files
        if quiet or time.perf_counter() > until:
            return held
        time.sleep(0.2)


def mistakes(found: Sequence[Exchange], expected: dict[int, dict[int, str]]) -> tuple[dict[str, int], list[str]]:
    """How often what was wrong, and some of them in words."""
    named = [(kind, each) for each in found if (kind := mistake(each, expected)) is not None]
    shown = [f"{kind}: {told(each, expected)}" for kind, each in itertools.islice(named, SHOWN)]
    return dict(collections.Counter(kind for kind, _ in named)), shown


def mistake(each: Exchange, expected: dict[int, dict[int, str]]) -> str | None:
    """What is wrong about an answer; None: nothing."""
    if not each.as_expected:
        return "status" if each.status != each.asked.expected_status else "broken"
    if each.status != 200:
        return None
    alone = expected[id(each.asked.body)]
    if each.left:
        return None if all(alone[i].startswith(text) for i, text in each.texts.items()) else "beginning"
    return None if dict(each.texts) == alone else "text"


def told(each: Exchange, expected: dict[int, dict[int, str]]) -> str:
    asked: Asked = each.asked
    alone = expected.get(id(asked.body), {})
    body = each.body[:120].decode("utf-8", "replace")
    return (
        f"{asked.name or str(asked.body)[-160:]} gave {each.status} (expected {asked.expected_status}) "
        f"{each.failure or ''} {body or dict(each.texts)} instead of {alone}"
    )[:600]


def leaks(idle: Held, warm: Held, after: Held, args: argparse.Namespace) -> list[str]:
    """What was not given back."""
    found = [
        f"{name} is {value:g} after the load instead of {limit:g}"
        for name, value, limit in (
            ("sequences running", after.running, 0),
            ("sequences waiting", after.waiting, 0),
            ("open files", after.files, idle.files),
        )
        if value > limit
    ]
    grown = after.resident_mb - warm.resident_mb
    if grown > args.growth:
        found.append(f"resident memory grew by {grown:.1f} MB after the first tenth of the load; limit {args.growth:g}")
    return found


if __name__ == "__main__":
    main()
