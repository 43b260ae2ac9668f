"""Which instructions this processor has, as far as its system tells.

Linux lists them in /proc/cpuinfo, macOS in sysctl. Elsewhere nothing is known; what neort does is measured there, too.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["INSTRUCTIONS", "instruction_sets", "processor_name"]

CPUINFO = Path("/proc/cpuinfo")
X86 = {
    "AVX2": ("avx2",),
    "AVX512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "AVX-VNNI-INT8": ("avx_vnni_int8",),
    "AMX": ("amx_int8",),
}
ARM = {
    "NEON": ("asimd", "hw.optional.AdvSIMD", "hw.optional.neon"),
    "dotprod": ("asimddp", "hw.optional.arm.FEAT_DotProd"),
    "i8mm": ("i8mm", "hw.optional.arm.FEAT_I8MM"),
    "SVE": ("sve",),
}
INSTRUCTIONS = {"x86": X86, "arm": ARM}
SECONDS = 5.0


def instruction_sets(
    machine: str = platform.machine(), cpuinfo: str | None = None, sysctl: str | None = None
) -> Mapping[str, bool] | None:
    """Whether the processor has each set of instructions that int8 products use; None where nobody tells.

    ``cpuinfo`` and ``sysctl`` are what the system says; None means that it is asked.
    """
    known = ARM if machine.lower().startswith(("arm", "aarch")) else X86
    flags = _flags(_cpuinfo() if cpuinfo is None else cpuinfo)
    flags |= _switches(_sysctl() if sysctl is None else sysctl)
    if not flags:
        return None
    return {name: any(each in flags for each in names) for name, names in known.items()}


def processor_name() -> str:
    """What the system calls the processor."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    named = re.search(r"^machdep\.cpu\.brand_string:\s*(.+)$", _sysctl(), re.MULTILINE)
    return next((each[1].strip() for each in (found, named) if each), "") or platform.processor() or platform.machine()


def _flags(cpuinfo: str) -> set[str]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return set(found[1].split()) if found else set()


def _switches(sysctl: str) -> set[str]:
    """The names whose value is 1; those of Intel's Macs in their list of features."""
    listed = re.findall(r"^machdep\.cpu\.(?:leaf7_)?features:\s*(.*)$", sysctl, re.MULTILINE)
    return set(re.findall(r"^([\w.]+):\s*1$", sysctl, re.MULTILINE)) | set(" ".join(listed).lower().split())


def _cpuinfo() -> str:
    try:
        return CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sysctl() -> str:
    if sys.platform != "darwin":
        return ""
    import subprocess

    try:
        names = ["machdep.cpu", "hw.optional"]
        return subprocess.run(
            ["sysctl", *names], capture_output=True, text=True, timeout=SECONDS, check=False, errors="replace"
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
