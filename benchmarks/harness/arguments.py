"""Command lines of the benchmarks: the module's docstring is the help."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["integers", "named_path", "script_parser"]


def script_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows ``description`` as it stands, under the command that runs the module."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return argparse.ArgumentParser(
        prog=f"python -m {spec.name}" if spec else None,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def integers(text: str) -> list[int]:
    """Numbers between commas: "32,512"."""
    return [int(number) for number in text.split(",")]


def named_path(text: str) -> tuple[str, Path]:
    """A name and a path: "after=BUNDLE". Raises argparse.ArgumentTypeError where either is missing."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} must read NAME=PATH")
    return name, Path(path)
