"""The bundled default model, and what is known of published checkpoints.

Knows nothing about tensors: it imports the standard library only. `neort_export.training` makes new checkpoints.
"""

from __future__ import annotations

from pathlib import Path

from .presets import PRESETS, Preset, preset
from .quality import PublishedQuality

__all__ = ["PRESETS", "Preset", "PublishedQuality", "bundled", "preset"]

_BUNDLED = Path(__file__).parent / "neo-mini"


def bundled() -> Path:
    """Return the folder of the bundled model, a small GPT-Neo that writes fragments of old novels.

    Raises FileNotFoundError if this installation came without it.
    """
    if not (_BUNDLED / "manifest.json").is_file():
        raise FileNotFoundError(
            f"no bundled model in {_BUNDLED}: reinstall neort from a wheel, or name the folder of a bundle"
        )
    return _BUNDLED
