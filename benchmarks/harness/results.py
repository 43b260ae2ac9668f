"""The files in results/: written whole or not at all, with the machine card.

A script that adds to a file keeps what was measured on the same machine only.
"""

from __future__ import annotations

import json
from typing import Any

from .files import RESULTS, write_whole
from .machine_card import machine_card, same_machine

__all__ = ["earlier_results", "read_results", "write_results"]


def write_results(name: str, content: dict[str, Any]) -> None:
    """Write results/NAME.json, machine card first; print its path."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    write_whole(file, json.dumps({"machine": machine_card(), **content}, indent=1) + "\n")
    print(f"wrote {file}")


def read_results(name: str) -> dict[str, Any] | None:
    """results/NAME.json, machine card included; None where there is none."""
    file = RESULTS / f"{name}.json"
    if not file.exists():
        return None
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return results


def earlier_results(name: str) -> dict[str, Any] | None:
    """results/NAME.json without its machine card, where it was measured on this machine; None otherwise."""
    results = read_results(name)
    if results is None or not same_machine(results.pop("machine")):
        return None
    return results
