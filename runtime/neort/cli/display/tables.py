"""Aligned tables, and numbers and texts as they stand in them."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import east_asian_width

__all__ = ["aligned", "bytes_in_words", "count_in_words", "visible"]

GAP = "  "


def aligned(rows: Sequence[Sequence[str]], sides: str = "") -> list[str]:
    """Rows of cells as lines with aligned columns; ``sides`` has "r" for a column to the right, "l" for others."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return [
        GAP.join(
            " " * (width - _width(cell)) + cell if side == "r" else cell + " " * (width - _width(cell))
            for cell, width, side in zip(row, widths, sides.ljust(len(widths), "l"), strict=True)
        ).rstrip()
        for row in rows
    ]


def _width(text: str) -> int:
    """Columns that a terminal gives a text."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def bytes_in_words(count: float) -> str:
    """A number of bytes with its unit, "5.4 MB" say."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} bytes"


def count_in_words(count: float) -> str:
    """A large number in millions or billions, "3.5 million" say."""
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f}"


def visible(text: str) -> str:
    """A token's text in quotes, so that blanks show; what does not print as an escape sequence."""
    shown = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return f'"{shown}"'
