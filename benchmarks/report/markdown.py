"""What tables of several rooms say in the same way."""

from __future__ import annotations

from typing import Any

__all__ = ["machine"]


def machine(results: dict[str, Any]) -> str:
    """The machine that results were measured on: its CPU and how many it has."""
    return f"{results['machine']['cpu']}, {results['machine']['cpus']} CPUs"
