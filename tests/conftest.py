"""Loads the package `benchmarks` from its folder, takes the clock away from hypothesis, and has a small model bundled.

The bundled model is a fixture, for all rooms that have no other.

The repository's root is not on the path: the folders `runtime` and `export` would then be importable, too.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import hypothesis
import pytest

import neort
from folders import ROOT
from neort.bundle import bundled_path

hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine may take seconds for an example
hypothesis.settings.load_profile("patient")

os.environ.setdefault("NEORT_MODEL", str(ROOT / "tests" / "bundles" / "neo-mini"))  # a third of neo-books' size

FOLDER = ROOT / "benchmarks"

if "benchmarks" not in sys.modules:
    spec = importlib.util.spec_from_file_location(
        "benchmarks", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["benchmarks"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


@pytest.fixture(scope="session")
def bundle_path() -> Path:
    """Folder of the bundled model; not to be written to."""
    return bundled_path()


@pytest.fixture(scope="session")
def model(bundle_path: Path) -> neort.Model:
    """The bundled model. Tests share it, so they must leave no sequence running."""
    return neort.load(bundle_path, num_threads=2)
