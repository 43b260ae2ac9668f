"""Tells PyInstaller what a frozen program needs beside neort's modules: small graphs, pages, and the bundled model.

PyInstaller calls `hook_dirs` by the entry point that pyproject.toml declares, so programs with neort need no options.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["hook_dirs"]


def hook_dirs() -> list[str]:
    """The folder of the hooks, which is no package: their names, set by PyInstaller, are no modules' names."""
    return [str(Path(__file__).with_name("pyinstaller_hooks"))]
