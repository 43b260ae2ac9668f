"""CPUs of its own for each actor of a node: Ray counts CPUs and pins nobody to any.

An actor holds a lock for each CPU that it runs on as long as it lives, however it ends. Knows nothing about Ray.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...files import FileLock
from ...workers import Cpu, usable_cpus

__all__ = ["nearest", "own_folder", "pin_to_own_cpus"]

PATIENCE = 30.0  # seconds for other actors to choose theirs
OWNER_ONLY = 0o700

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

    They are near to each other, see `nearest`. Where the system pins nobody, or so many are not free, nothing
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
    locks = {cpu: FileLock(folder / f"cpu-{cpu.number}.lock") for cpu in usable_cpus() or ()}
    free = [cpu for cpu, lock in locks.items() if lock.take()]
    chosen = nearest(free, count)
    for cpu in free:
        if cpu in chosen:
            _held.append(locks[cpu])
        else:
            locks[cpu].close()
    return tuple(sorted(cpu.number for cpu in chosen))


def nearest(free: Sequence[Cpu], count: int) -> Sequence[Cpu]:
    """``count`` of the free CPUs: of the memory's node with the fewest that has so many, else of several nodes.

    Cores are not divided where whole ones are enough. None where fewer are free.
    """
    nodes: dict[int, list[Cpu]] = {}
    for cpu in sorted(free, key=lambda cpu: cpu.place):
        nodes.setdefault(cpu.node, []).append(cpu)
    enough = sorted((node for node in nodes.values() if len(node) >= count), key=len)
    every = [cpu for node in nodes.values() for cpu in node]
    return (enough[0] if enough else every)[:count] if len(free) >= count else []


def _pin(cpus: tuple[int, ...]) -> None:
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # it has ended
            os.sched_setaffinity(int(thread), cpus)
