"""The commands, one file for each: its flags, and what it does."""

from __future__ import annotations

from . import bench, completion, doctor, explain, generate, info, pull, serve, tokenize, verify
from . import eval as evaluate

__all__ = ["COMMANDS"]

COMMANDS = (generate, serve, tokenize, explain, evaluate, pull, info, verify, bench, doctor, completion)
"""In the order in which the help lists them."""
