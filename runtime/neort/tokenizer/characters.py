"""Characters as GPT-2's tokenizer sees them: which letters, numbers, blanks and words there are, and a file's bytes.

Which code points are letters depends on the version of Unicode, so Python's own tables do not do: tiktoken is asked,
whose tables are those of the reference.
"""

from __future__ import annotations

import functools
import re

from tiktoken import Encoding

__all__ = ["ALPHABET", "BLANKS", "bytes_of", "is_word", "split"]

BLANKS = "\t\n\x0b\x0c\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"

LETTER, NUMBER, BLANK, OTHER = "A", "0", "\t", "!"  # stand for the characters beyond ASCII of their class
_PIECES = re.compile(
    r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII
)  # GPT-2's pattern, for texts in which each class has its ASCII characters only


def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in the file: itself if printable, else one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}
    return {characters[byte]: byte for byte in range(256)}


ALPHABET = _byte_alphabet()


def bytes_of(token: str) -> bytes:
    """The bytes that a token of the file stands for; one with characters beyond the alphabet is taken as it is."""
    try:
        return bytes(map(ALPHABET.__getitem__, token))
    except KeyError:
        return token.encode("utf-8", "replace")


def split(text: str) -> list[str]:
    """Cut a text into the pieces within which tokens merge, as GPT-2 does."""
    if text.isascii():
        return _PIECES.findall(text)
    shadow = text.translate(_ascii_classes(text))
    return [text[match.start() : match.end()] for match in _PIECES.finditer(shadow)]


@functools.lru_cache(maxsize=4096)
def is_word(character: str) -> bool:
    r"""Whether a character belongs to a word: \w as the reference's regular expressions have it."""
    return bool(_found(r"\w", character))


def _ascii_classes(text: str) -> dict[int, str]:
    """For each character beyond ASCII in the text, the one that stands for its class."""
    characters = "".join(character for character in set(text) if character > "\x7f")
    classes = dict.fromkeys(map(ord, characters), OTHER)
    for pattern, stand_in in ((r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", BLANK)):
        classes.update(dict.fromkeys(map(ord, _found(pattern, characters)), stand_in))
    return classes


def _found(pattern: str, text: str) -> str:
    """The characters of a text that a pattern finds: tiktoken leaves out of its ids what its pattern does not match."""
    return bytes(_finder(pattern).encode_ordinary(text)).decode("utf-8")


@functools.cache
def _finder(pattern: str) -> Encoding:
    ranks = {bytes([byte]): byte for byte in range(256)}
    return Encoding("neort-characters", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
