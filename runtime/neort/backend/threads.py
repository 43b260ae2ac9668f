"""How many threads this process may really use: its CPU affinity, cut by its container's quota; and the most it may."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from types import ModuleType
from typing import SupportsIndex

from ..errors import ArgumentTypeError, ConfigError
from ..wording import shortened

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

__all__ = ["available_cpus", "cgroup_quota", "checked_threads", "thread_limit"]

MOST_THREADS = 64  # on any machine, and
THREADS_PER_CPU = 4  # on larger ones: beyond, threads only wait for each other


def available_cpus() -> int:
    """The default number of threads: min(CPU affinity, cgroup CPU quota), at least 1.

    Affinity is known on Linux and Windows' Python 3.13; elsewhere it is the number of CPUs. Quotas exist on Linux.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(affinity, cgroup_quota(), thread_limit())))


def thread_limit() -> int:
    """The most threads that a run of a model may have: 64, or 4 per CPU of the machine where these are more.

    Fewer where the system would not let this process start so many (the user's RLIMIT_NPROC, the cgroup's pids.max):
    onnxruntime waits for threads that never come.
    """
    most = max(MOST_THREADS, THREADS_PER_CPU * (os.cpu_count() or 1))
    return max(1, int(min(most, _processes_of_the_user(), cgroup_processes())))


def checked_threads(num_threads: object) -> int:
    """A number of threads that a caller gave.

    Raises ArgumentTypeError for another type, ConfigError for less than one and more than `thread_limit`.
    """
    if isinstance(num_threads, bool) or not isinstance(num_threads, SupportsIndex):
        raise ArgumentTypeError(f"num_threads is an integer, not {type(num_threads).__name__}")
    count, limit = operator.index(num_threads), thread_limit()
    if not 1 <= count <= limit:
        raise ConfigError(
            f"num_threads is {shortened(count)}; it must be at least 1, and {limit} at most on this machine: leave it "
            f"out for one thread per CPU ({available_cpus()} here)"
        )
    return count


def _processes_of_the_user() -> float:
    """Threads that the system lets this user have in all; infinity where it sets no limit, as for root."""
    if resource is None or os.geteuid() == 0:
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    return math.inf if limit in (resource.RLIM_INFINITY, -1) else limit


def cgroup_processes(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Threads that the cgroup and its parents let this process start now; infinity without a limit."""
    return min([math.inf, *(_read_pids(folder) for folder in _folders("pids", proc, root))])


def cgroup_quota(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """CPUs that the cgroup (v2, or v1's cpu controller) and its parents allow; infinity without a quota."""
    return min([math.inf, *(min(_read_v2(folder), _read_v1(folder)) for folder in _folders("cpu", proc, root))])


def _folders(controller: str, proc: Path, root: Path) -> list[Path]:
    """The folders of this process's cgroup and its parents that a controller (of v1) or v2 has."""
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # no Linux, or /proc is hidden
        return []
    folders = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and controllers == "":
            folders += _ancestors(root, path)
        elif controller in controllers.split(","):
            folders += _ancestors(root / controller, path)
    return folders


def _ancestors(root: Path, path: str) -> list[Path]:
    """The cgroup's folder and its parents up to ``root``; inside a container the path may not be visible."""
    folder = root / path.lstrip("/")
    return [folder, *(p for p in folder.parents if p == root or root in p.parents)]


def _read_pids(folder: Path) -> float:
    try:
        most = (folder / "pids.max").read_text(encoding="utf-8").strip()
        now = int((folder / "pids.current").read_text(encoding="utf-8"))
        return math.inf if most == "max" else int(most) - now
    except (OSError, ValueError):
        return math.inf


def _read_v2(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


def _read_v1(folder: Path) -> float:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return math.inf
    return math.inf if quota <= 0 else quota / period
