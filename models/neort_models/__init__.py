"""The bundled default model, and what is known of published checkpoints.

Knows nothing about tensors: it imports the standard library only. `neort_export.training` makes new checkpoints.
"""

from __future__ import annotations

import os
from pathlib import Path

from .presets import PRESETS, Preset, preset
from .quality import PublishedQuality

__all__ = ["PRESETS", "Preset", "PublishedQuality", "bundled", "preset"]

_BUNDLED = Path(__file__).parent / "neo-books"
CHOSEN = "NEORT_MODEL"  # the environment variable that names another folder


def bundled() -> Path:
    """Return the folder of the bundled model, a small GPT-Neo that writes as old novels do, or the one in NEORT_MODEL.

    Raises FileNotFoundError if this installation came without it, or the folder that NEORT_MODEL names is no bundle.
    """
    if chosen := os.environ.get(CHOSEN):
        if not (Path(chosen) / "manifest.json").is_file():
            raise FileNotFoundError(
                f"{CHOSEN}={chosen} is no folder of a bundle: name one made by neort-export, or unset {CHOSEN}"
            )
        return Path(chosen)
    if not (_BUNDLED / "manifest.json").is_file():
        raise FileNotFoundError(
            f"no bundled model in {_BUNDLED}: reinstall neort from a wheel, or name the folder of a bundle"
        )
    return _BUNDLED
