"""What makes token ids of a piece of text without added tokens: tiktoken, or the list of merges itself.

tiktoken is ten times as fast, and serves where `merges` says that it gives the same ids: for GPT-2's own tokenizer and
for whatever was trained like it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

from tiktoken import Encoding

from .characters import ALPHABET, BLANKS, bytes_of, split
from .merges import Pair, merge_pairs, ranked_merges, ranks_of

__all__ = ["Engine", "MergeEngine", "RankEngine", "engine_of"]

# GPT-2's pattern, 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+, in an
# equivalent form that takes whitespace at the end of the text without backtracking.
_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s++$|\s+(?!\S)|\s"
_WHOLE = r"[\s\S]+"

# tiktoken's regex engine panics when it must remember a million places to go back to, as in a run of
# whitespace before a word. Runs longer than this many characters are cut where the pattern cuts them anyway.
_LONGEST_BLANKS = 100_000
_BLANKS = re.compile(f"[{BLANKS}]+")

REMEMBERED = 1 << 14  # pieces whose ids are kept
LONGEST_REMEMBERED = 256  # bytes of such a piece
REMOVED = -1


class Engine(Protocol):
    """Makes ids of text; ``largest_id`` is the largest that it can make, -1 where it makes none."""

    largest_id: int

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        ...


def engine_of(model: Mapping[str, Any], *, use_regex: bool) -> Engine:
    """The engine for the model of a `tokenizer.json`, whose settings were checked.

    Without ``use_regex`` the text is not cut into pieces.

    Raises TokenizerError for merges that are no pairs of tokens of the vocabulary.
    """
    vocab: dict[str, int] = model["vocab"]
    pairs = merge_pairs(model["merges"])
    ranks = None if model.get("ignore_merges") else ranks_of(vocab, pairs)
    if ranks is not None:
        return RankEngine(ranks, use_regex=use_regex)
    return MergeEngine(model, pairs, split if use_regex else lambda text: [text])


class RankEngine:
    """tiktoken, for merges whose order is that of their tokens' ids."""

    def __init__(self, ranks: dict[bytes, int], *, use_regex: bool) -> None:
        """Takes the id of each token that may come out."""
        pattern = _SPLIT if use_regex else _WHOLE
        self._use_regex = use_regex
        self.largest_id = max(ranks.values())
        self._encoding = Encoding("neort", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        if len(text) <= _LONGEST_BLANKS or not self._use_regex:
            return self._encoding.encode_ordinary(text)
        return list(itertools.chain.from_iterable(map(self._encoding.encode_ordinary, _cut_blanks(text))))


class MergeEngine:
    """The list of merges as the reference applies it, in Python, for what tiktoken's ranks cannot express.

    Bytes without a token are left out, or become the unknown token; of the pairs in the list, the earliest is merged
    first, and of equal ones the leftmost. The time is that of sorting the bytes of a piece.
    """

    def __init__(self, model: Mapping[str, Any], pairs: Sequence[Pair], cut: Callable[[str], Sequence[str]]) -> None:
        """Takes the model of a file, its merges, and what cuts a text into pieces."""
        vocab: dict[str, int] = model["vocab"]
        self._merges = ranked_merges(vocab, pairs)
        self._cut = cut
        self._ids = [vocab.get(character) for character in ALPHABET]  # by byte
        self._fallback = _byte_tokens(vocab) if model.get("byte_fallback") else [None] * 256
        unknown = model.get("unk_token")
        self._unknown = None if unknown is None else vocab.get(unknown)
        self._fuse = bool(model.get("fuse_unk"))
        self._whole = {}
        if model.get("ignore_merges"):
            self._whole = {bytes_of(token): [i] for token, i in vocab.items() if set(token) <= ALPHABET.keys()}
        self._known: dict[bytes, list[int]] = {}
        self.largest_id = max(self._possible(), default=-1)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        ids: list[int] = []
        for part in self._cut(text):
            piece = part.encode("utf-8")
            known = self._known.get(piece)
            if known is None:
                known = self._whole.get(piece) or self._merged(list(self._symbols(piece)))
                if len(piece) <= LONGEST_REMEMBERED:
                    self._remember(piece, known)
            ids += known
        return ids

    def _possible(self) -> set[int]:
        """All ids that may come out."""
        ids = {each for each in (*self._ids, self._unknown) if each is not None}
        ids.update(*(each for each in self._fallback if each is not None), *self._whole.values())
        return ids | {merged for _, merged in self._merges.values()}

    def _remember(self, piece: bytes, ids: list[int]) -> None:
        if len(self._known) >= REMEMBERED:
            self._known = {}
        self._known[piece] = ids

    def _symbols(self, piece: bytes) -> Iterator[int]:
        """The ids of the bytes. An unknown token waits for the next known byte, in the reference too."""
        waiting = False
        for byte in piece:
            token_id, fallback = self._ids[byte], self._fallback[byte]
            if token_id is None and fallback is not None:
                yield from fallback
            elif token_id is not None or self._unknown is not None:
                if waiting and not (token_id is None and self._fuse):
                    yield self._unknown  # type: ignore[misc]
                waiting = token_id is None
                if token_id is not None:
                    yield token_id
        if waiting:
            yield self._unknown  # type: ignore[misc]

    def _merged(self, symbols: list[int]) -> list[int]:
        """Merges the symbols of a piece, in place: each is at the place of its first byte, the others are removed."""
        merges, count = self._merges, len(symbols)
        following, previous = [*range(1, count + 1)], [*range(-1, count - 1)]
        heap = [
            (rule[0], place, rule[1])
            for place, pair in enumerate(itertools.pairwise(symbols))
            if (rule := merges.get(pair)) is not None
        ]
        heapify(heap)
        while heap:
            _, place, merged = heappop(heap)
            second = following[place]
            if symbols[place] == REMOVED or second == count:
                continue
            rule = merges.get((symbols[place], symbols[second]))
            if rule is None or rule[1] != merged:
                continue
            symbols[place], symbols[second] = merged, REMOVED
            third = following[place] = following[second]
            before = previous[place]
            if third < count:
                previous[third] = place
                if (rule := merges.get((merged, symbols[third]))) is not None:
                    heappush(heap, (rule[0], place, rule[1]))
            if before >= 0 and (rule := merges.get((symbols[before], merged))) is not None:
                heappush(heap, (rule[0], before, rule[1]))
        return [symbol for symbol in symbols if symbol != REMOVED]


def _byte_tokens(vocab: Mapping[str, int]) -> list[list[int] | None]:
    """For each byte, the ids of the tokens <0xNN> of the character that stands for it in the file, if all exist."""
    names = [[f"<0x{byte:02X}>" for byte in character.encode("utf-8")] for character in ALPHABET]
    return [[vocab[name] for name in each] if all(name in vocab for name in each) else None for each in names]


def _cut_blanks(text: str) -> list[str]:
    """Cuts a text before the last character of each overlong run of whitespace that something follows."""
    runs = [match.span() for match in _BLANKS.finditer(text)]
    cuts = [end - 1 for start, end in runs if end - start > _LONGEST_BLANKS and end < len(text)]
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
