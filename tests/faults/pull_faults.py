"""Kills `neort pull` at random moments, and breaks its transfers at random bytes, until the bundle is there.

    python tests/faults/pull_faults.py [--count 20] [--seed 0] [BUNDLE]

After each kill the cache must hold no bundle, or the whole one; what arrived must be the beginning of a file of it, and
no pull may lose what an earlier one has. Prints a line for each kill, and the requests of the last pull; the exit
status tells whether all of it held.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support")]

import neort  # noqa: E402
from loopback_hub import Hub, Repository, running_hub  # noqa: E402
from neort.bundle import bundled_path  # noqa: E402
from neort.hub import CachedRepository, find_bundle  # noqa: E402

NAME = "owner/tiny"
PACE = 0.02  # seconds for 64 kB
LONGEST = 0.8  # seconds of fetching until a kill
COMMAND = [sys.executable, "-m", "neort", "pull", NAME]


def cached() -> CachedRepository:
    return CachedRepository(Path(os.environ["HF_HOME"]) / "hub", "models--owner--tiny")


def arrived(files: dict[str, bytes]) -> int:
    """How many bytes the cache holds. Raises AssertionError for any that are of no file."""
    contents, total = set(files.values()), 0
    for file in cached().blobs.iterdir() if cached().blobs.is_dir() else ():
        held = file.read_bytes()
        whole = file.suffix != ".incomplete"
        assert held in contents if whole else any(each.startswith(held) for each in contents), file
        total += len(held)
    return total


def is_there() -> bool:
    """Whether the cache holds a bundle. Raises BundleError for one that is not whole."""
    try:
        found = find_bundle(NAME)
    except neort.BundleError:
        return False
    return neort.Bundle(found, check_weights=True).path == found


def kill(seconds: float) -> str:
    """Kill a pull so many seconds after it has begun to fetch, if it is not through by then."""
    with subprocess.Popen(COMMAND, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()  # which commit it is
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
    return f"killed after {seconds:.2f} s" if process.returncode < 0 else f"ended with {process.returncode}"


def run(hub: Hub, bundle: Path, count: int) -> None:
    files = {f"int8/{file.name}": file.read_bytes() for file in bundle.iterdir()}
    hub.repositories[NAME] = Repository(files)
    size, before = sum(map(len, files.values())), 0
    for number in range(count):
        hub.pace, hub.breaks = PACE, [random.randrange(size) for _ in range(3)]
        ended = kill(random.uniform(0, LONGEST))
        now, there = arrived(files), is_there()
        told = "the whole bundle" if there else f"no bundle, {now:,} of {size:,} bytes"
        sys.stdout.write(f"{number + 1:3} {ended}: {told}\n")
        assert now >= before, "what had arrived was lost"
        before = now
    hub.pace, hub.breaks = 0.0, []
    hub.requests.clear()
    done = subprocess.run(COMMAND, check=True, capture_output=True, text=True)
    sys.stdout.write(f"the last pull, without faults:\n{done.stderr}{hub.log()}\n")
    assert is_there()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, default=None, metavar="BUNDLE")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, running_hub() as hub:
        os.environ |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": folder}
        run(hub, args.bundle or bundled_path(), args.count)
    sys.stdout.write(f"all of it held, in {time.perf_counter() - began:.0f} seconds\n")


if __name__ == "__main__":
    main()
