"""Gives a checkpoint that is made here the tokenizer of another folder."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["copy_tokenizer"]


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy tokenizer.json, and tokenizer_config.json if there is one. Raises FileNotFoundError without the former."""
    if not (source / "tokenizer.json").is_file():
        raise FileNotFoundError(f"{source} has no tokenizer.json; name a folder that has one")
    for file in source.glob("tokenizer*.json"):
        shutil.copyfile(file, folder / file.name)
