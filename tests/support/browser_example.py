"""The example of a page, its server and the bundles that it is tried with."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from folders import ROOT

__all__ = ["NEO_BOOKS", "NEO_MINI", "POLL", "server_module"]

NEO_BOOKS = ROOT / "models" / "neort_models" / "neo-books"
NEO_MINI = ROOT / "tests" / "bundles" / "neo-mini"
POLL = 0.02  # seconds until a server notices that it shall end


def server_module(folder: Path) -> Any:
    """The module serve.py of an example's folder, which serves that folder."""
    spec = importlib.util.spec_from_file_location("serve", folder / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
