"""Arguments that are sizes, counts and times. Each raises argparse.ArgumentTypeError for what is none."""

from __future__ import annotations

import argparse
import re

from ..wording import shortened

__all__ = ["count", "seconds", "size", "size_above_zero"]

SIZE = re.compile(r"(\d+)([KMGT]?)(i?B)?", re.IGNORECASE)
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
LONGEST_TIME = 86_400.0 * 7


def size(text: str) -> int:
    """Bytes, with a unit or without."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no size; write bytes, or 512M, or 8G")
    return int(found[1]) * UNITS[found[2].upper()]


def size_above_zero(text: str) -> int:
    """Bytes, with a unit or without, and not none."""
    found = size(text)
    if found == 0:
        raise argparse.ArgumentTypeError(f"{shortened(text)} leaves no room for anything; write a size, as 512M or 8G")
    return found


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no count; write a whole number from 1 on")
    return int(text)


def seconds(text: str) -> float:
    """A time up to a week."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST_TIME:
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no time; write seconds from 0 to {LONGEST_TIME:,.0f}")
    return value
