"""Added tokens: their ids, and where a text holds them, as the reference's AddedVocabulary finds them.

A text is searched twice: for the tokens that are not normalized, then, in what is left over, for the others. Of several
tokens that start at one place the longest counts, and the search goes on where it ends, even if it is discarded since
it is part of a longer word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import TokenizerError
from ..wording import shortened
from .characters import BLANKS, is_word

__all__ = ["AddedToken", "Part", "numbered", "splitters"]

FEW = 64  # tokens that one regular expression finds fast
_BLANKS = re.compile(f"[{BLANKS}]*")

Part = str | int  # text that holds no token of a search, or a token's id


@dataclass(frozen=True)
class AddedToken:
    """An entry of a file's `added_tokens`, whose id is not part of it: the reference numbers them itself."""

    content: str
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> AddedToken:
        """Reads an entry; what is not said is False."""
        flags = {name: bool(entry.get(name)) for name in ("single_word", "lstrip", "rstrip", "normalized", "special")}
        return cls(entry["content"], **flags)


def numbered(tokens: Iterable[AddedToken], vocab: Mapping[str, int]) -> dict[int, AddedToken]:
    """The tokens by their ids: that of the vocabulary, or else the next free one after its count of entries.

    Of several that have one id, the last counts; those without content do not.

    Raises TokenizerError for one that is listed twice with other flags, of which releases of the reference take the one
    or the other.
    """
    ids: dict[str, int] = {}
    by_id: dict[int, AddedToken] = {}
    next_id = len(vocab)
    for token in tokens:
        if not token.content:
            continue
        if token.content in ids and by_id[ids[token.content]] != token:
            raise TokenizerError(
                f"tokenizer.json lists added token {shortened(token.content)} twice, with different flags, of which "
                "releases of transformers take the one or the other: leave one of the two"
            )
        token_id = ids.get(token.content, vocab.get(token.content))
        if token_id is None:
            token_id, next_id = next_id, next_id + 1
        ids[token.content] = token_id
        by_id[token_id] = token
    return by_id


def splitters(tokens: Mapping[int, AddedToken]) -> list[Splitter]:
    """The searches that a text goes through; those without a token are left out."""
    passes: tuple[dict[int, AddedToken], ...] = ({}, {})
    for token_id, token in tokens.items():
        passes[token.normalized][token_id] = token
    return [Splitter(each) for each in passes if each]


class Splitter:
    """Cuts texts at some added tokens.

    ``finds`` says, by what is true or not, whether a text holds one of them, for most texts do not.
    """

    def __init__(self, tokens: Mapping[int, AddedToken]) -> None:
        """Takes the tokens of one search."""
        self._tokens = {token.content: (token_id, token) for token_id, token in tokens.items()}
        self._plain = not any(token.single_word or token.lstrip or token.rstrip for token in tokens.values())
        self._finder = (_Alternatives if len(self._tokens) <= FEW else _Lengths)(self._tokens)
        self.finds: Callable[[str], object] = self._finder.finds

    def split(self, text: str) -> list[Part]:
        """The text's parts, in their order; none is empty."""
        if self._plain:
            return self._split_plain(text)
        parts: list[Part] = []
        done, blanks = 0, (-1, -1)
        for start, end in self._finder.spans(text):
            token_id, token = self._tokens[text[start:end]]
            if token.single_word and _within_a_word(text, start, end):
                continue
            if token.lstrip:
                start = done + len(text[done:start].rstrip(BLANKS))  # noqa: PLW2901
            if token.rstrip:
                if not blanks[0] <= end <= blanks[1]:
                    blanks = _BLANKS.match(text, end).span()  # type: ignore[union-attr]
                end = blanks[1]  # noqa: PLW2901
            if done < start:
                parts.append(text[done:start])
            if start < end:  # else the token before it took it for blanks
                parts.append(token_id)
            done = end
        if done != len(text):
            parts.append(text[done:])
        return parts

    def _split_plain(self, text: str) -> list[Part]:
        parts: list[Part] = []
        done = 0
        for start, end in self._finder.spans(text):
            if done < start:
                parts.append(text[done:start])
            parts.append(self._tokens[text[start:end]][0])
            done = end
        if done < len(text):
            parts.append(text[done:])
        return parts


def _within_a_word(text: str, start: int, end: int) -> bool:
    return (start > 0 and is_word(text[start - 1])) or (end < len(text) and is_word(text[end]))


class _Alternatives:
    """Finds the leftmost and longest of a few strings by one regular expression."""

    def __init__(self, contents: Collection[str]) -> None:
        longest_first = sorted(contents, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        self.finds = self._pattern.search

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        return (match.span() for match in self._pattern.finditer(text))


class _Lengths:
    """Finds the leftmost and longest of many strings: looks up what starts at each of their first characters."""

    def __init__(self, contents: Collection[str]) -> None:
        self._contents = contents
        lengths: dict[str, set[int]] = {}
        for content in contents:
            lengths.setdefault(content[0], set()).add(len(content))
        self._lengths = {first: sorted(each, reverse=True) for first, each in lengths.items()}
        self._first = re.compile(f"[{''.join(map(re.escape, lengths))}]")

    def finds(self, text: str) -> bool:
        return any(True for _ in self.spans(text))

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        position = 0
        while (found := self._first.search(text, position)) is not None:
            start = position = found.start()
            for length in self._lengths[found.group()]:
                if (content := text[start : start + length]) in self._contents:
                    position += len(content)
                    yield start, position
                    break
            else:
                position += 1
