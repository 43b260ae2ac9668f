"""What the benchmark scripts share: the machine card and the results files."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from neort.files import published_file

__all__ = ["RESULTS", "earlier_results", "machine_card", "write_results"]

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("neort", "numpy", "onnxruntime", "tiktoken", "torch", "transformers", "onnx-ir")


def machine_card() -> dict[str, Any]:
    """What a reader needs to judge the figures: processor, memory, system and library versions."""
    return {
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "int8_instructions": _int8_instructions(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def write_results(name: str, content: dict[str, Any]) -> Path:
    """Write results/NAME.json, machine card first; print its path."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    text = json.dumps({"machine": machine_card(), **content}, indent=1) + "\n"
    with published_file(file) as stream:
        stream.write(text.encode())
    print(f"wrote {file}")
    return file


def earlier_results(name: str) -> dict[str, Any] | None:
    """results/NAME.json without its machine card, where it was measured on this machine; None otherwise."""
    file = RESULTS / f"{name}.json"
    if not file.exists():
        return None
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    measured_on, here = results.pop("machine"), machine_card()
    same = all(measured_on[key] == here[key] for key in ("cpu", "cpus", "int8_instructions", "memory_gb", "system"))
    return results if same else None


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
