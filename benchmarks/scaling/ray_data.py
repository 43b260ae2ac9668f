"""What does a job of Ray Data make of a machine beside one process: tokens per second, seconds until it begins, memory?

    python -m benchmarks.scaling.ray_data [BUNDLE] [--rounds 3] [--prompts 512] [--few 128] [--tokens 64]

All have the same CPUs: `neort generate --input` with a thread for each, and jobs with one worker that has all threads,
with two workers that have half of them each, and with two that do not share their packed weights. In every round each
of them in turn, in alternating order, is given few prompts and then more of them: tokens by seconds of the difference,
so that what comes before the first record and after the last one does not count. It is what the shorter run took
beyond that. Prompts are random token ids; tokens are chosen greedily and go on beyond the end of text.

While the actors work their memory is read from Linux's /proc, where pages that processes share are divided among them
(PSS); a further actor is what two take beyond one. Of the job's other processes the sum is given.

Writes results/ray_data-NAME.json after each round, NAME being the bundle's folder: every round's figures, and medians.
Needs neort[ray]; Linux.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from neort.backend import available_cpus
from neort.bundle import Bundle, bundled_path

from ..harness.arguments import script_parser
from ..harness.results import write_results

MODULE = "neort.integrations.ray_data"
ACTOR = "ray::MapWorker(MapBatches(PartActor))"
LOOK_EVERY = 0.2  # seconds between two readings of the memory
ONE, TWO, APART = "1 worker", "2 workers", "2 workers, weights of their own"
PROCESS = "one process"


def main() -> None:
    args = parse_args()
    systems = commands(args)
    results: dict[str, Any] = {
        "name": args.bundle.name, "cpus": available_cpus(), "rounds": args.rounds, "prompts": args.prompts,
        "few": args.few, "prompt_tokens": args.prompt_tokens, "new_tokens": args.tokens,
        "weight_bytes": (args.bundle / "weights.data").stat().st_size, "raw": {name: [] for name in systems},
    }  # fmt: skip
    with TemporaryDirectory() as folder:
        run(systems[TWO], Path(folder), args, args.few, 0)  # which packs the weights
    for i in range(args.rounds):
        for name in list(systems) if i % 2 == 0 else reversed(list(systems)):
            with TemporaryDirectory() as folder:
                row = measured(systems[name], Path(folder), args, i)
            results["raw"][name].append(row)
            print(name, row, flush=True)
        results["medians"] = {name: medians(rows) for name, rows in results["raw"].items()}
        write_results(f"ray_data-{args.bundle.name}", results)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", default=bundled_path())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=512, help="of the longer file")
    parser.add_argument("--few", type=int, default=128, help="prompts of the shorter file")
    parser.add_argument("--tokens", type=int, default=64, help="new ones of each")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    return parser.parse_args()


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    """The command of each system, in which {input} and {output} stand for files."""
    cpus, tokens = available_cpus(), str(args.tokens)
    options = ["--model", str(args.bundle), "--max-new-tokens", tokens, "--min-new-tokens", tokens, "--no-do-sample"]
    job = ["-m", MODULE, "{input}", "{output}", *options]
    two = [*job, "--workers", "2", "--num-threads", str(max(1, cpus // 2))]
    return {
        PROCESS: ["-m", "neort", "generate", "--input", "{input}", "--output", "{output}", *options],
        ONE: [*job, "--workers", "1", "--num-threads", str(cpus)],
        TWO: two,
        APART: [*two, "--packed-weights", "none"],
    }


def measured(command: Sequence[str], folder: Path, args: argparse.Namespace, seed: int) -> dict[str, float]:
    """Seconds for few prompts and for more of them, tokens per second of the difference, and memory."""
    few, _ = run(command, folder, args, args.few, seed)
    many, held = run(command, folder, args, args.prompts, seed)
    rate = (args.prompts - args.few) * args.tokens / max(many - few, 1e-9)
    start = few - args.few * args.tokens / rate
    figures = {"few_seconds": few, "seconds": many, "tokens_per_second": rate, "start_seconds": start, **held}
    return {name: round(value, 3) for name, value in figures.items()}


def run(
    command: Sequence[str], folder: Path, args: argparse.Namespace, count: int, seed: int
) -> tuple[float, dict[str, float]]:
    """Seconds that it takes with ``count`` prompts; and the last memory of its actors, when there were most of them."""
    source, vocabulary = random.Random(seed * 1000 + count), Bundle(args.bundle).spec.vocab_size
    file, output = folder / "prompts.jsonl", str(folder / f"out-{count}")
    with file.open("w", encoding="utf-8") as stream:
        for _ in range(count):
            ids = [source.randrange(1, vocabulary - 1) for _ in range(args.prompt_tokens)]
            stream.write(json.dumps({"prompt": ids}) + "\n")
    filled = [part.format(input=file, output=output) for part in command]
    began, held = time.perf_counter(), dict[str, float]()
    with (folder / "log").open("wb") as log, subprocess.Popen([sys.executable, *filled], stderr=log) as process:
        while process.poll() is None:
            now = actors_memory(process.pid)
            held = now if now.get("actors", 0) >= held.get("actors", 0) else held
            time.sleep(LOOK_EVERY)
        took = time.perf_counter() - began
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(filled)} ended with {process.returncode}: {(folder / 'log').read_text('utf-8')}")
    return took, held


def actors_memory(process: int) -> dict[str, float]:
    """What the actors of a job take, and its other processes; nothing before its actors are all there and loaded."""
    actors: list[Any] = []
    others: list[Any] = []
    try:
        for pid in processes(process):
            name = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            (actors if name.startswith(ACTOR) else others).append(memory(pid))
    except (OSError, KeyError, ValueError):  # one of them has just ended
        return {}
    if not actors:
        return {}
    return {
        "actors": len(actors),
        "actors_pss_mb": sum(each["pss"] for each in actors) / 1e6,
        "actors_rss_mb": sum(each["rss"] for each in actors) / 1e6,
        "others_pss_mb": sum(each["pss"] for each in others) / 1e6,
    }


def memory(process: int) -> dict[str, int]:
    """Bytes of a process that are resident, and of these its share (PSS). Raises OSError where it has ended."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    sizes = {line.split(":")[0].lower(): line.split() for line in lines}
    return {name: int(sizes[name][1]) * 1024 for name in ("pss", "rss")}


def processes(process: int) -> Iterator[int]:
    """A process and all that it started, itself or through others."""
    yield process
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            yield from processes(int(child))


def medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each figure the median over the rounds."""
    return {name: round(statistics.median(row[name] for row in rows if name in row), 3) for name in rows[0]}


if __name__ == "__main__":
    main()
