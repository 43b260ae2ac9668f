"""Text to token ids and back: the byte-level BPE of a Hugging Face `tokenizer.json`, run by tiktoken.

The two libraries state BPE differently. Hugging Face keeps a list of merges: of all adjacent pairs in the
list, the earliest is merged first. tiktoken keeps no list: of all adjacent pairs whose concatenation is a
token, the one of lowest rank (here the token id) is merged first, and a piece that is a token is taken whole.
Both give the same ids for every text when

1. ids ascend in the order of the merges (so rank order is merge order, and no token has two merges),
2. both halves of a merge are single bytes or results of earlier merges, and
3. the merges, applied to the bytes of a token alone, give that token.

For when tiktoken joins two neighbours into a token t, they cover exactly the bytes of t, every merge earlier
than t's has been done there, and none crossed the ends; so by (3) the two are the halves of t's own merge.
All three are checked when a file is loaded, and so is every setting that tiktoken has no counterpart for.

Knows nothing about models, prompts or context lengths, and never opens a connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tiktoken import Encoding

from ..errors import ArgumentTypeError, TokenizerError
from ..paths import read_regular
from ..wording import shortened
from .checks import check_added_tokens, check_settings, check_shape

__all__ = ["Tokenizer"]

# GPT-2's pattern, 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+, in an
# equivalent form that takes whitespace at the end of the text without backtracking.
_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s++$|\s+(?!\S)|\s"

# tiktoken's regex engine panics when it must remember a million places to go back to, as in a run of
# whitespace before a word. Runs longer than this many characters are cut where the pattern cuts them anyway.
_LONGEST_BLANKS = 100_000
_BLANKS = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")

LARGEST_FILE = 64 << 20  # bytes; GPT-Neo's has 2 million

_SURROGATE = re.compile("[\ud800-\udfff]")


def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in the file: itself if printable, else one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}
    return {characters[byte]: byte for byte in range(256)}


_ALPHABET = _byte_alphabet()


class Tokenizer:
    """Byte-level BPE that gives the ids of `tokenizers.Tokenizer.from_file(...)`, its reference in the tests.

    Which characters are letters and numbers decides where a text is cut, so identity holds as far as both
    libraries know the same version of Unicode: tiktoken 0.8 to 0.14 and tokenizers 0.22 agree on every code
    point; tokenizers 0.20 takes some 9,000 letters and numbers of the newest versions for unassigned.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        """Takes the parsed `tokenizer.json`.

        Raises:
            TokenizerError: the document is malformed, or asks for something that tiktoken cannot reproduce.
        """
        check_settings(document)
        check_shape(document)
        vocab: dict[str, int] = document["model"]["vocab"]
        added = [token for token in document.get("added_tokens") or () if token["content"]]
        check_added_tokens(added, vocab)

        self._added = {token["content"]: token["id"] for token in added}
        self._special = {token["content"]: token["id"] for token in added if token.get("special")}
        # The reference looks for the normalized ones only in what the others leave over.
        plain = [token["content"] for token in added if not token.get("normalized")]
        normalized = [token["content"] for token in added if token.get("normalized")]
        self._splitters = [_any_of(contents) for contents in (plain, normalized) if contents]

        self._bytes = {token_id: _bytes_of(token) for token, token_id in (vocab | self._added).items()}
        mergeable = _mergeable_ids(vocab, document["model"]["merges"])
        ranks = {self._bytes[token_id]: token_id for token_id in mergeable}
        self._encoding = Encoding("neort", pat_str=_SPLIT, mergeable_ranks=ranks, special_tokens={})
        self._special_bytes = {token_id: self._bytes.pop(token_id) for token_id in self._special.values()}

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Reads a `tokenizer.json`.

        Raises:
            TokenizerError: the file cannot be read or parsed, or tiktoken cannot reproduce it exactly.
        """
        try:
            document = json.loads(read_regular(Path(path), LARGEST_FILE))
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise TokenizerError(f"cannot read {path} as a tokenizer.json ({reason}): restore it") from error
        except RecursionError:
            raise TokenizerError(
                f"cannot read {path} as a tokenizer.json (its lists and objects are nested too deep): restore it"
            ) from None
        return cls(document)

    @property
    def vocab_size(self) -> int:
        """How many token ids there are, added tokens included."""
        return len(self._bytes) + len(self._special_bytes)

    @property
    def largest_id(self) -> int:
        """The largest of the token ids."""
        ids: list[int] = [*self._bytes, *self._special_bytes]
        return max(ids)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The id of each special token, by its text."""
        return dict(self._special)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text. Added tokens written in the text, special ones too, become their ids.

        A str may hold surrogates, which no valid text has and the reference refuses: here a high one and the
        low one after it count as the character they stand for, and each other one as U+FFFD.

        Raises:
            TypeError: text is not a str.
        """
        if not isinstance(text, str):
            raise ArgumentTypeError(f"text must be a str, not {type(text).__name__}")
        if _SURROGATE.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._encode(text, self._splitters)

    def _encode(self, text: str, splitters: Sequence[re.Pattern[str]]) -> list[int]:
        token_ids: list[int] = []
        if not splitters:
            for part in _cut_blanks(text):
                token_ids += self._encoding.encode_ordinary(part)
            return token_ids
        for index, part in enumerate(splitters[0].split(text)):
            token_ids += [self._added[part]] if index % 2 else self._encode(part, splitters[1:])
        return token_ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one token stands for; b"" for special tokens and for every id the tokenizer does not have
        (the vocabulary of a model may be padded)."""
        return self._bytes.get(token_id, b"")

    def all_bytes(self, token_id: int) -> bytes:
        """The bytes one token stands for, a special token too; b"" for every id the tokenizer does not have."""
        return self._bytes.get(token_id) or self._special_bytes.get(token_id, b"")

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids. Ids the tokenizer does not have are left out; invalid UTF-8 gives U+FFFD."""
        special: dict[int, bytes] = {} if skip_special_tokens else self._special_bytes
        pieces = (self._bytes.get(token_id) or special.get(token_id, b"") for token_id in token_ids)
        return b"".join(pieces).decode("utf-8", "replace")


def _any_of(contents: Iterable[str]) -> re.Pattern[str]:
    """Matches the first and longest of the contents; `split` leaves the matches at the odd places."""
    return re.compile(f"({'|'.join(map(re.escape, sorted(contents, key=len, reverse=True)))})")


def _cut_blanks(text: str) -> list[str]:
    """Cuts a text before the last character of each overlong run of whitespace that something follows."""
    if len(text) <= _LONGEST_BLANKS:
        return [text]
    runs = [match.span() for match in _BLANKS.finditer(text)]
    cuts = [end - 1 for start, end in runs if end - start > _LONGEST_BLANKS and end < len(text)]
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def _bytes_of(token: str) -> bytes:
    try:
        return bytes(map(_ALPHABET.__getitem__, token))
    except KeyError:  # an added token, written as it is
        return token.encode("utf-8", "replace")


def _mergeable_ids(vocab: dict[str, int], merges: Iterable[str | list[str]]) -> list[int]:
    """The ids of single bytes and merged tokens, after checking the conditions of the module docstring.

    Other tokens of the vocabulary never come out of the reference, so tiktoken must not know them.
    """
    missing = [f"0x{byte:02x}" for character, byte in _ALPHABET.items() if character not in vocab]
    if missing:
        raise TokenizerError(
            f"the vocabulary lacks {len(missing)} of the 256 single bytes, {missing[0]} for one: train the "
            "tokenizer with initial_alphabet=ByteLevel.alphabet()"
        )
    numbers = dict(_ALPHABET)  # a token's place in time: 0 to 255 for the bytes, then the merges in order
    halves: list[tuple[int, int]] = [(byte, byte) for byte in range(256)]
    ids = [vocab[character] for character in _ALPHABET]
    last_id = -1
    for left, right in _pairs(merges):
        token = left + right
        token_id = vocab.get(token, -1)
        if left not in numbers or right not in numbers or token_id < 0:
            raise TokenizerError(
                f"merge {shortened((left, right))} uses a token that no earlier merge gives, or gives one that "
                "the vocabulary lacks: restore the file, with its merges in the order of training"
            )
        if token_id <= last_id:
            raise TokenizerError(
                f"merge {shortened((left, right))} gives id {token_id} after an earlier one gave {last_id}: ids must "
                "ascend in the order of the merges; renumber the tokens, and the model's embeddings with them"
            )
        numbers[token] = len(halves)
        halves.append((numbers[left], numbers[right]))
        ids.append(token_id)
        last_id = token_id
    _check_reachable(halves, list(numbers))
    return ids


def _check_reachable(halves: list[tuple[int, int]], tokens: list[str]) -> None:
    """Raises TokenizerError for a token whose halves do not meet, since a merge crosses their boundary first.

    Goes back in time from a token's own merge: undoes the latest merge that ends or starts at the boundary,
    down to single bytes, and asks each time whether the two neighbours there merge while they last. Where one
    rule fits at two overlapping places the left one is merged: hence the + 1 on the right side.
    """
    merged = {pair: number for number, pair in enumerate(halves) if number >= 256}
    for (first, second), token_number in merged.items():
        left, right, until = first, second, token_number
        while left >= 256 or right >= 256:
            if left > right:
                until, left = left, halves[left][1]
            else:
                until, right = right + 1, halves[right][0]
            if merged.get((left, right), until) < until:
                raise TokenizerError(
                    f"the merges do not give {shortened(tokens[token_number])} for its own bytes: they join "
                    f"{shortened(tokens[left])} and {shortened(tokens[right])} first; train the tokenizer again"
                )


def _pairs(merges: Iterable[str | list[str]]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for merge in merges:
        if isinstance(merge, str) and merge.startswith("#version"):
            continue
        try:
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            pairs.append((left + "", right + ""))
        except (TypeError, ValueError) as error:
            raise TokenizerError(f"merge {shortened(merge)} is not a pair of tokens: restore the file") from error
    return pairs
