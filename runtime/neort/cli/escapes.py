"""Escape sequences in arguments, for characters that shells make hard to type."""

from __future__ import annotations

import re

__all__ = ["unescaped"]

_CHARACTERS = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
_SEQUENCE = re.compile(
    r"\\(?:u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|u(?!d[89a-f])([0-9a-f]{4})|([nrt\\]))", re.IGNORECASE
)


def unescaped(text: str) -> str:
    """The text with each escape sequence as the character that it stands for.

    These are ``\\n``, ``\\r``, ``\\t``, two backslashes for one, and ``\\uXXXX``, of which two make a character beyond
    U+FFFF, as in JSON. Any other backslash is itself.
    """
    return _SEQUENCE.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    high, low, code, letter = match.groups()
    if letter:
        return _CHARACTERS.get(letter, match[0])
    if code:
        return chr(int(code, 16))
    return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
