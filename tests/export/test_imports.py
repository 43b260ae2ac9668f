"""Which room of the exporter may import which: down the list, inside the package by relative imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import neort_export

ROOT = Path(neort_export.__file__).parent
ORDER = [
    "errors",
    "progress",
    "memory",
    "parallel",
    "architectures",
    "checkpoint",
    "quantization",
    "formats",
    "reference",
    "graph",
    "bundle",
    "verification",
    "training",
    "exporter",
    "cli",
]
UPWARD = {("formats", "verification")}  # the limits of a strict export
FILES = sorted(ROOT.rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """The modules that a file imports anywhere in it, those of this package from its root on: ".graph.names"."""
    place = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = (*place[: len(place) - node.level + 1], *(node.module or "").split("."))
            parents = [part for part in base if part]
            yield from ("." + ".".join([*parents, *([] if node.module else [alias.name])]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_down_the_list_and_are_relative(file: Path) -> None:
    names = set(imported(file))
    assert not {name for name in names if name.split(".")[0] == "neort_export"}
    if room(file) not in ORDER:  # the package itself, which hands on what others may use
        return
    others = {name.split(".")[1] for name in names if name.startswith(".")} & set(ORDER) - {room(file)}
    upward = {(room(file), other) for other in others if ORDER.index(other) > ORDER.index(room(file))}
    assert upward <= UPWARD


def test_every_room_has_its_place_in_the_list() -> None:
    assert {room(file) for file in FILES} - {"__init__"} == set(ORDER)


def test_the_exporter_leaves_onnxruntime_to_the_runtime() -> None:
    assert not [file for file in FILES if any(name.split(".")[0] == "onnxruntime" for name in imported(file))]
