"""The machine card: what a reader needs to judge figures."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["machine_card", "same_machine"]

LIBRARIES = ("neort", "numpy", "onnxruntime", "tiktoken", "torch", "transformers", "onnx-ir", "ray")
IDENTITY = ("cpu", "cpus", "int8_instructions", "memory_gb", "system")


def machine_card() -> dict[str, Any]:
    """CPU, memory, system and the versions of libraries."""
    return {
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "int8_instructions": _int8_instructions(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def same_machine(card: dict[str, Any]) -> bool:
    """Whether a machine card is of this machine, whatever its libraries."""
    here = machine_card()
    return all(card[key] == here[key] for key in IDENTITY)


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _int8_instructions() -> list[str]:
    known = {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"}
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return sorted(known & flags)


def _memory_gb() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
