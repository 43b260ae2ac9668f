"""verification.json: the figures of an export, and the golden logits of each of its graphs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import Bundle
from ..errors import BundleError
from ..kvcache import CacheType
from ..wording import is_utf8, shortened
from .golden import REMEDY, Golden

__all__ = ["GOLDEN", "VERIFICATION", "Stored", "read_stored"]

VERIFICATION = "verification.json"
GOLDEN: dict[CacheType, str] = {"fp32": "golden", "int8": "golden_int8_cache"}
"""Under which name the golden logits of each graph are stored, by the type of its cache."""


@dataclass(frozen=True)
class Stored:
    """What a bundle stores about itself: ``figures`` for people, and ``golden`` logits by the type of the cache.

    Bundles of earlier versions have golden logits for an fp32 cache alone.
    """

    figures: dict[str, Any]
    golden: Mapping[CacheType, Golden]


def read_stored(bundle: Bundle) -> Stored | None:
    """Read verification.json; None in a bundle that was exported without verification.

    Raises BundleError, which names the file, the value and the remedy, for contents that no export writes.
    """
    if VERIFICATION not in bundle.file_names:
        return None
    file = bundle.path / VERIFICATION
    content = bundle.read_json(VERIFICATION)
    _check_values(content, file)
    golden = {
        kind: Golden.read(content.get(name), name, bundle.spec, file)
        for kind, name in GOLDEN.items()
        if kind == "fp32" or name in content
    }
    return Stored({name: value for name, value in content.items() if name not in GOLDEN.values()}, golden)


def _check_values(content: dict[str, Any], file: Path) -> None:
    """Raises BundleError for NaN, infinities, and text that no file can hold."""
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}" if name else key, each) for key, each in value.items()]
            waiting += [(name, key) for key in value]
        elif isinstance(value, list):
            waiting += [(name, each) for each in value]
        elif isinstance(value, float) and not math.isfinite(value):
            raise BundleError(f"{file} has {shortened(name)[1:-1]} {value}, which is no finite number; {REMEDY}")
        elif isinstance(value, str) and not is_utf8(value):
            raise BundleError(
                f"{file} has {shortened(name)[1:-1]} {shortened(value)}, which is no valid text; {REMEDY}"
            )
