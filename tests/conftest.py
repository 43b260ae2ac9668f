"""Loads the package `benchmarks` from its folder, takes the clock away from hypothesis, and has a small model bundled.

The repository's root is not on the path: the folders `runtime` and `export` would then be importable, too.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import hypothesis

from folders import ROOT

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
