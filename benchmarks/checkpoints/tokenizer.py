"""Gives a checkpoint that is made here the tokenizer of another folder."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["copy_tokenizer"]


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy tokenizer.json and tokenizer_config.json."""
    for file in source.glob("tokenizer*.json"):
        shutil.copyfile(file, folder / file.name)
