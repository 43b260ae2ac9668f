"""Where the project's files are, and those that not every machine has."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("NEORT_SHARED", ROOT.parent / "shared"))  # a trained checkpoint, corpora, a tokenizer
