"""What neort tells PyInstaller: where its hooks are, and which files a frozen program needs beside the modules."""

from __future__ import annotations

import importlib
import runpy
import tomllib
from pathlib import Path

import pytest

import neort
import neort_models
from folders import ROOT
from neort.integrations.pyinstaller import hook_dirs

PACKAGES = [neort, neort_models]
NOT_READ = {".py", ".pyc", ".toml", ".typed"}


def test_the_entry_point_names_a_folder_with_a_hook_for_each_package() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    module, _, name = points["pyinstaller40"]["hook-dirs"].partition(":")
    (folder,) = getattr(importlib.import_module(module), name)()
    assert {file.name for file in Path(folder).glob("*.py")} == {f"hook-{each.__name__}.py" for each in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_hook_names_every_file_that_is_read_beside_the_modules(package: object) -> None:
    pytest.importorskip("PyInstaller", reason="PyInstaller is not installed")
    name, place = package.__name__, Path(package.__file__).parent  # type: ignore[attr-defined]
    found = runpy.run_path(str(Path(hook_dirs()[0]) / f"hook-{name}.py"))["datas"]
    packed = {Path(folder) / Path(file).name for file, folder in found}
    read = {file for file in place.rglob("*") if file.is_file() and file.suffix not in NOT_READ}
    assert packed == {file.relative_to(place.parent) for file in read}
    assert len(read) > 5
