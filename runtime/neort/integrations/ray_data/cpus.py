"""CPUs of its own for each actor of a node: Ray counts CPUs and pins nobody to any.

An actor holds a lock for each CPU that it runs on as long as it lives, however it ends. Knows nothing about Ray.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...files import FileLock

__all__ = ["own_folder", "pin_to_own_cpus"]

PATIENCE = 30.0  # seconds for other actors to choose theirs
OWNER_ONLY = 0o700
NODES = Path("/sys/devices/system/node")

_held: list[FileLock] = []  # of this process, until it ends


def own_folder(name: str) -> Path | None:
    """A folder of this user alone in the machine's temporary one; None where somebody else has it."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"neort-{user}")
    with contextlib.suppress(OSError):
        for each in (folder, folder / name):
            each.mkdir(OWNER_ONLY, exist_ok=True)
            found = each.lstat()
            if found.st_mode & 0o022 or (hasattr(os, "getuid") and found.st_uid != user) or each.is_symlink():
                return None
        return folder / name
    return None


def pin_to_own_cpus(count: int, folder: Path | None = None) -> tuple[int, ...]:
    """Keep this process's threads on ``count`` CPUs that no other process has taken in this way, and return them.

    They are of one NUMA node where there are enough. Where the system pins nobody, or so many are not free, nothing
    changes: (). What the process starts afterwards inherits it.
    """
    folder = folder or own_folder("cpus")
    if sys.platform != "linux" or folder is None:
        return ()
    choice = FileLock(folder / "choice.lock")
    try:
        if not choice.take(seconds=PATIENCE):
            return ()
        taken = _take(count, folder)
    except OSError:
        return ()
    finally:
        choice.close()
    if taken:
        _pin(taken)
    return taken


def _take(count: int, folder: Path) -> tuple[int, ...]:
    """Locks for ``count`` CPUs, kept until the process ends; none where so many are not free."""
    free: dict[int, FileLock] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        lock = FileLock(folder / f"cpu-{cpu}.lock")
        if lock.take():
            free[cpu] = lock
    chosen = _near(sorted(free), count)
    for cpu, lock in free.items():
        if cpu in chosen:
            _held.append(lock)
        else:
            lock.close()
    return chosen


def _near(free: list[int], count: int) -> tuple[int, ...]:
    """``count`` of the free CPUs, of one NUMA node if one has so many, of those the one with the fewest."""
    if len(free) < count:
        return ()
    nodes = [[cpu for cpu in node if cpu in free] for node in _numa_nodes()]
    enough = sorted((node for node in nodes if len(node) >= count), key=len)
    return tuple((enough[0] if enough else free)[:count])


def _numa_nodes() -> Iterator[list[int]]:
    for file in sorted(NODES.glob("node[0-9]*/cpulist")):
        with contextlib.suppress(OSError, ValueError):
            yield list(_cpus(file.read_text(encoding="ascii")))


def _cpus(text: str) -> Iterable[int]:
    """The numbers of a list such as 0-3,8."""
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        yield from range(int(first), int(last or first) + 1)


def _pin(cpus: tuple[int, ...]) -> None:
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # it has ended
            os.sched_setaffinity(int(thread), cpus)
