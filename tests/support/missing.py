"""A Python in which some packages cannot be imported, as where they are not installed."""

from __future__ import annotations

import subprocess
import sys

from patience import PATIENCE
from releases import QUIET

__all__ = ["blocking", "module_as_program", "run_without"]


def blocking(*packages: str) -> str:
    """The beginning of a program to which ``packages`` are missing."""
    return f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(name + " is blocked", name=name)
sys.meta_path.insert(0, Block())
"""


def module_as_program(name: str) -> str:
    """A program that does what ``python -m NAME`` does."""
    return f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"


def run_without(packages: tuple[str, ...], program: str) -> subprocess.CompletedProcess[str]:
    """Run a program to which ``packages`` are missing, whatever comes of it."""
    command = [sys.executable, *QUIET, "-c", blocking(*packages) + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
