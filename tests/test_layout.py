"""The folders of the repository are no packages that anyone could import by accident."""

from __future__ import annotations

import importlib.machinery
import tomllib

import pytest

from folders import ROOT

PYTEST = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]


@pytest.mark.parametrize("folder", ["runtime", "export"])
def test_no_source_root_is_importable_through_pytests_path(folder: str) -> None:
    entries = [str(ROOT / entry) for entry in PYTEST["pythonpath"]]
    assert entries
    assert importlib.machinery.PathFinder.find_spec(folder, entries) is None
