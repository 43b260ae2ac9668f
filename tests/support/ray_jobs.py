"""Jobs of neort's command for Ray Data, and Ray's processes, which are known by a mark in their environment. Linux."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from patience import PATIENCE

__all__ = [
    "ACTOR",
    "MARK",
    "MODULE",
    "environment",
    "kill_marked",
    "marked",
    "one_process",
    "results",
    "with_children",
    "write_prompts",
]

MODULE = "neort.integrations.ray_data"
ACTOR = "ray::MapWorker(MapBatches(PartActor))"  # what Ray calls an actor with a model
MARK = "NEORT_JOB_MARK"
WORDS = ("the", "old", "king", "went", "down", "to", "sea", "and", "said", "that", "never", "such", "ship", "days")
BROKEN = ["", "no JSON", '{"id": "no prompt"}', '{"prompt": ""}', '{"prompt": "%s"}' % ("sea " * 2000)]


def environment(mark: str) -> dict[str, str]:
    """The environment of a process whose children shall be found."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return os.environ | quiet | {MARK: mark}


def write_prompts(file: Path, count: int, source: random.Random) -> None:
    """A file of ``count`` records, some of which are no prompts, and a blank line."""
    lines = [
        json.dumps({"id": f"r{i}", "prompt": " ".join(source.choices(WORDS, k=source.randint(1, 12)))})
        for i in range(count)
    ]
    for line in BROKEN[1:]:
        lines[source.randrange(count)] = line
    lines.insert(count // 2, BROKEN[0])
    file.write_text("\n".join(lines), encoding="utf-8")


def one_process(file: Path, output: Path, *options: str) -> bytes:
    """What `neort generate --input` writes."""
    command = [sys.executable, "-m", "neort", "generate", "--input", str(file), "--output", str(output), *options]
    subprocess.run(command, env=environment(""), check=False, capture_output=True)
    return output.read_bytes()


def results(folder: Path) -> bytes:
    """The contents of all files of results, one after the other."""
    return b"".join(file.read_bytes() for file in sorted(folder.glob("part-*")))


def marked(mark: str) -> dict[int, str]:
    """Names of the processes that have the mark, by process id."""
    wanted = f"{MARK}={mark}\0".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return {pid: name for pid, name in found.items() if name}  # a zombie has none


def with_children(process: int) -> Iterator[int]:
    """A process and all that it started, itself or through others."""
    yield process
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from with_children(int(child))


def kill_marked(mark: str) -> int:
    """End all processes that have the mark, and wait until they have; how many there were."""
    first = left = marked(mark)
    until = time.monotonic() + PATIENCE
    while left and time.monotonic() < until:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
        left = marked(mark)
    return len(first)
