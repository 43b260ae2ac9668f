"""How much memory does each system take, and how much do four processes of neort share?

    python -m benchmarks.peers.memory WORK [--shape gpt-neo-1.3b] [--systems ...] [--prompt 512] [--tokens 32]
        [--together 4]

Every system runs in a fresh process: its memory is read after loading, and after a prompt and new tokens. Then several
processes of neort run beside each other, all loaded, all after generating. From Linux's /proc: `rss` is what is
resident, its part `anonymous` is the process's own, its part `file` are mapped files, which processes share and the
system may drop; `pss` divides shared pages by the number of processes that share them; `peak_rss` is the highest so
far. neort's cache in use is 2 x layers x hidden size x 4 bytes for each token that it holds.

Writes results/memory-SHAPE.json, in bytes. Systems measured before on the same machine stay.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from ..harness.results import earlier_results, write_results
from ..harness.work import cached_values
from .catalog import OURS, SYSTEMS, in_order
from .comparison import make_prompts, system_parser
from .workplace import UnavailableError, Worker, Workplace

FLOAT_BYTES = 4
STATUS = {"rss": "VmRSS", "anonymous": "RssAnon", "file": "RssFile", "peak_rss": "VmHWM"}


def main() -> None:
    args = parse_args()
    place = Workplace(args.work, args.shape)
    name = f"memory-{args.shape}"
    results = earlier_results(name) or {"shape": args.shape, "systems": {}, "together": {}}
    for system in args.systems:
        row = alone(args, place, system)
        results["systems"] = in_order({**results["systems"], system: row})
        print(system, row, flush=True)
        if system in OURS and "stopped" not in row:
            results["together"][system] = row = together(args, place, system)
            print(args.together, "times", system, row, flush=True)
        write_results(name, results)


def parse_args() -> argparse.Namespace:
    parser = system_parser(__doc__, SYSTEMS)
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens")
    parser.add_argument("--together", type=int, default=4, help="processes of neort at once")
    return parser.parse_args()


def alone(args: argparse.Namespace, place: Workplace, system: str) -> dict[str, Any]:
    """One process of a system, after loading and after generating."""
    facts: dict[str, Any] = {"prompt_tokens": args.prompt, "new_tokens": args.tokens}
    try:
        facts["weight_bytes"] = sum(file.stat().st_size for file in place.files(system))
        with Worker(place, system, args.threads) as worker:
            facts["loaded"] = memory(worker.process.pid)
            worker.measure(make_prompts(args.prompt, 1), args.tokens)
            facts["generated"] = memory(worker.process.pid)
    except UnavailableError as error:
        return {**facts, "stopped": str(error)}
    if system in OURS:
        facts["cache_bytes"] = cache_bytes(place, args.prompt + args.tokens - 1)
    return facts


def together(args: argparse.Namespace, place: Workplace, system: str) -> dict[str, Any]:
    """Several processes of a system at once; the sums of all, after loading and after each has generated."""
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(place, system, args.threads)) for _ in range(args.together)]
        loaded = [memory(worker.process.pid) for worker in workers]
        for worker in workers:
            worker.measure(make_prompts(args.prompt, 1), args.tokens)
        generated = [memory(worker.process.pid) for worker in workers]
    return {"processes": args.together, "loaded": total(loaded), "generated": total(generated)}


def total(rows: list[dict[str, int]]) -> dict[str, int]:
    return {key: sum(row[key] for row in rows) for key in rows[0]}


def memory(pid: int) -> dict[str, int]:
    """A process's memory in bytes, from /proc."""
    status, smaps = fields(Path(f"/proc/{pid}/status")), fields(Path(f"/proc/{pid}/smaps_rollup"))
    return {name: status[field] for name, field in STATUS.items()} | {"pss": smaps["Pss"]}


def fields(file: Path) -> dict[str, int]:
    """The lines "Name: 123 kB" of a file of /proc, in bytes."""
    lines = [line.split() for line in file.read_text(encoding="ascii", errors="replace").splitlines()]
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[-1:] == ["kB"]}


def cache_bytes(place: Workplace, tokens: int) -> int:
    config = json.loads((place.checkpoint / "config.json").read_text(encoding="utf-8"))
    return FLOAT_BYTES * cached_values(config, tokens, windowed=False)


if __name__ == "__main__":
    main()
