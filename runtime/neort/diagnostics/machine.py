"""What there is to know about this machine without running anything: CPUs, limits, memory, versions."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..backend import available_cpus, cgroup_quota
from .instructions import instruction_sets, processor_name

__all__ = ["MachineFacts", "machine_facts", "resident_bytes"]

LIBRARIES = ("neort", "numpy", "onnxruntime", "tiktoken")
MEMINFO, STATUS, CGROUP = Path("/proc/meminfo"), Path("/proc/self/status"), Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class MachineFacts:
    """Facts of the system; None where it does not tell. ``quota`` is in CPUs, sizes are in bytes.

    ``memory_limit`` is that of a container.
    """

    processor: str
    system: str
    instructions: Mapping[str, bool] | None
    cpus: int
    affinity: int | None
    quota: float | None
    threads: int
    memory: int | None
    memory_free: int | None
    memory_limit: int | None
    versions: Mapping[str, str]


def machine_facts() -> MachineFacts:
    """Ask the system."""
    quota = cgroup_quota()
    return MachineFacts(
        processor=processor_name(),
        system=f"{platform.system()} {platform.machine()}",
        instructions=instruction_sets(),
        cpus=os.cpu_count() or 1,
        affinity=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        quota=None if math.isinf(quota) else quota,
        threads=available_cpus(),
        memory=_kilobytes(MEMINFO, "MemTotal") or _pages(),
        memory_free=_kilobytes(MEMINFO, "MemAvailable"),
        memory_limit=_memory_limit(),
        versions={"python": platform.python_version()} | {name: _version(name) for name in LIBRARIES},
    )


def resident_bytes() -> int | None:
    """Memory that this process has now; None where the system does not tell."""
    return _kilobytes(STATUS, "VmRSS")


def _kilobytes(file: Path, name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB$", file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _pages() -> int | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _memory_limit() -> int | None:
    try:
        return int(CGROUP.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no Linux, or "max"
        return None


def _version(name: str) -> str:
    import importlib.metadata  # slow, and every command imports this module

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
