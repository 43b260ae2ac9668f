"""The folders of the repository are no packages that anyone could import by accident."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from folders import ROOT
from patience import PATIENCE

PYTEST = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
ENTRIES = [ROOT / entry for entry in PYTEST["pythonpath"]]
FOLDERS = ["runtime", "export"]
PROGRAM = f"""
import importlib.util, json
print(json.dumps([name for name in {FOLDERS} if importlib.util.find_spec(name) is not None]))
"""


def importable(path: list[Path]) -> list[str]:
    """Those of the folders' names that an interpreter with this path, and what is installed, can import."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],  # -P: without the current directory
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))},
    )
    found: list[str] = json.loads(done.stdout)
    return found


def test_no_source_root_is_importable_through_pytests_path() -> None:
    assert ENTRIES
    assert importable(ENTRIES) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_on_pytests_path_has_a_source_roots_name(folder: str) -> None:
    assert [path for entry in ENTRIES for path in (entry / folder, entry / f"{folder}.py") if path.exists()] == []


@pytest.mark.parametrize("root", [ROOT, ROOT / "tests"], ids=["repository", "tests"])
def test_source_roots_would_be_found_on_a_path_that_holds_such_folders(root: Path) -> None:
    assert importable([*ENTRIES, root]) == FOLDERS
