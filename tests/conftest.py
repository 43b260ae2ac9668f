"""Loads the package `benchmarks` from its folder.

The repository's root is not on the path: the folders `runtime` and `export` would then be importable, too.
"""

from __future__ import annotations

import importlib.util
import sys

from folders import ROOT

FOLDER = ROOT / "benchmarks"

if "benchmarks" not in sys.modules:
    spec = importlib.util.spec_from_file_location(
        "benchmarks", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["benchmarks"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
