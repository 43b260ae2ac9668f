"""Every script says what it answers, and how it is called, in its docstring."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from folders import ROOT

BENCHMARKS = ROOT / "benchmarks"
INDEX = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
SCRIPTS = [file for file in sorted(BENCHMARKS.rglob("*.py")) if '__name__ == "__main__"' in file.read_text("utf-8")]
ROOMS = [BENCHMARKS, *(file.parent for file in sorted(BENCHMARKS.rglob("*/__init__.py")))]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    BENCHMARKS / "README.md",
]


def module(script: Path) -> str:
    return ".".join(script.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("script", SCRIPTS, ids=module)
def test_a_script_names_its_command(script: Path) -> None:
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    assert docstring is not None
    assert f"    python -m {module(script)}" in docstring


@pytest.mark.parametrize("script", SCRIPTS, ids=module)
def test_the_index_has_every_script(script: Path) -> None:
    assert f"python -m {module(script)}" in INDEX


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_and_files_of_benchmarks_in_documents_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m (benchmarks[\w.]*)", text))
    files = set(re.findall(r"benchmarks/[\w/.-]+\.(?:py|json|svg)", text))
    assert modules <= {module(script) for script in SCRIPTS}
    assert all((ROOT / file).is_file() for file in files)


@pytest.mark.parametrize("room", ROOMS, ids=lambda folder: folder.name)
def test_every_room_says_what_it_is_for(room: Path) -> None:
    assert ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
