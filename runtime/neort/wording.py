"""How a value from outside stands in a message, short, whatever it is; and whether it can be written at all."""

from __future__ import annotations

import reprlib

__all__ = ["LONGEST_VALUE", "is_utf8", "shortened"]

LONGEST_VALUE = 200  # characters


class _Repr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxarray = 12
        self.maxdict = 6
        self.maxstring = self.maxlong = self.maxother = LONGEST_VALUE


_REPR = _Repr()


def shortened(value: object) -> str:
    """The value's repr, at most `LONGEST_VALUE` characters long; its middle or its end gives way to dots."""
    try:
        text = _REPR.repr(value)
    except Exception:  # an integer of thousands of digits, say
        return f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def is_utf8(text: str) -> bool:
    """Whether a text can be written in UTF-8: not where it has lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
