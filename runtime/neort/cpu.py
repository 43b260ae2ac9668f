"""What the processor can do, as far as the runtime must know."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

__all__ = ["int8_products_saturate"]

CPUINFO = Path("/proc/cpuinfo")


def int8_products_saturate() -> bool:
    """Whether uint8 x int8 products may saturate: on x86-64 without VNNI, pairs are summed in 16 bits.

    Where the processor cannot be asked, the answer is True: the exact kernel is slower, never wrong.
    """
    if platform.machine().lower() not in {"x86_64", "amd64", "i386", "i686"}:
        return False
    return not (_linux_flags() & {"avx512_vnni", "avx_vnni"} or _numpy_features().get("AVX512VNNI", False))


def _linux_flags() -> set[str]:
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "").split())


def _numpy_features() -> dict[str, bool]:
    """numpy's own table of processor features; private, so its absence is no error."""
    core = getattr(np, "_core", None) or getattr(np, "core", None)
    umath = getattr(core, "_multiarray_umath", None)
    features: dict[str, bool] = getattr(umath, "__cpu_features__", {})
    return features
