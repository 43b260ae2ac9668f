"""The programs of examples/, loaded as modules of their own names."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

from folders import ROOT

__all__ = ["EXAMPLES", "loaded"]

EXAMPLES = ROOT / "examples"


def loaded(place: str) -> ModuleType:
    """The module in a file of examples/, ``place`` being its path there; run anew at each call."""
    name = "_".join(["example", *place.removesuffix(".py").split("/")])
    spec = spec_from_file_location(name, EXAMPLES / place)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = module_from_spec(spec)  # where annotations are looked up
    spec.loader.exec_module(module)
    return module
