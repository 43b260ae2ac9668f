"""Colours in a terminal that shows them: never in a file or a pipe, nor where NO_COLOR asks for none."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from ..streams import Output

__all__ = ["Colours", "add_colour", "colours_of"]

RESET = "\x1b[0m"
LIKELY = ((0.5, 255), (0.2, 229), (0.05, 222), (0.01, 215), (0.0, 208))
"""Of the terminal's 256 colours the background for a probability of at least so much: pale to strong orange."""
STATUS = {"ok": "\x1b[32m", "note": "\x1b[33m", "problem": "\x1b[31;1m"}
Colours = Callable[[str, str], str]


def add_colour(parser: argparse.ArgumentParser) -> None:
    """The flag that decides about colours."""
    parser.add_argument(
        "--color",
        choices=["auto", "always", "never"],
        default="auto",
        help="colours; auto, the default: in a terminal, unless NO_COLOR is set",
    )


def colours_of(choice: str, output: Output) -> Colours:
    """What gives a text the colour of a status word, or of a probability (as a numeral); or leaves it as it is."""
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not output.is_terminal
    if choice == "never" or (choice == "auto" and plain):
        return lambda text, _: text
    return _coloured


def _coloured(text: str, meaning: str) -> str:
    start = STATUS.get(meaning) or f"\x1b[38;5;16;48;5;{_background(float(meaning))}m"
    return "\n".join(f"{start}{line}{RESET}" if line else "" for line in text.split("\n"))


def _background(probability: float) -> int:
    return next(colour for least, colour in LIKELY if probability >= least)
