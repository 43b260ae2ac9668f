"""How many threads this process may really use: its CPU affinity, cut by its container's quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["available_cpus", "cgroup_quota"]


def available_cpus() -> int:
    """The default number of threads: min(CPU affinity, cgroup CPU quota), at least 1.

    Affinity is known on Linux and Windows' Python 3.13; elsewhere it is the number of CPUs. Quotas exist on Linux.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(affinity, cgroup_quota())))


def cgroup_quota(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """CPUs that the cgroup (v2, or v1's cpu controller) and its parents allow; infinity without a quota."""
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux, or /proc is hidden
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
        if controllers == "":
            quotas += [_read_v2(folder) for folder in _ancestors(root, path)]
        elif "cpu" in controllers.split(","):
            quotas += [_read_v1(folder) for folder in _ancestors(root / "cpu", path)]
    return min(quotas)


def _ancestors(root: Path, path: str) -> list[Path]:
    """The cgroup's folder and its parents up to ``root``; inside a container the path may not be visible."""
    folder = root / path.lstrip("/")
    return [folder, *(p for p in folder.parents if p == root or root in p.parents)]


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
