"""The merges of a file, and whether tiktoken can apply them.

The two libraries state BPE differently. Hugging Face keeps a list of merges: of all adjacent pairs in the
list, the earliest is merged first. tiktoken keeps no list: of all adjacent pairs whose concatenation is a
token, the one of lowest rank (here the token id) is merged first, and a piece that is a token is taken whole.
Both give the same ids for every text when

1. every byte is a token, and ids ascend in the order of the merges (so rank order is merge order, and no token has
   two merges),
2. both halves of a merge are single bytes or results of earlier merges, and
3. the merges, applied to the bytes of a token alone, give that token.

For when tiktoken joins two neighbours into a token t, they cover exactly the bytes of t, every merge earlier
than t's has been done there, and none crossed the ends; so by (3) the two are the halves of t's own merge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import TokenizerError
from ..wording import shortened
from .characters import ALPHABET

__all__ = ["Pair", "merge_pairs", "ranked_merges", "ranks_of"]

Pair = tuple[str, str]


def merge_pairs(merges: Iterable[Any]) -> list[Pair]:
    """The merges of a file, which may be written in two ways. Raises TokenizerError for one that is no pair."""
    pairs: list[Pair] = []
    for merge in merges:
        if isinstance(merge, str) and merge.startswith("#version"):
            continue
        try:
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            pairs.append((left + "", right + ""))
        except (TypeError, ValueError) as error:
            raise TokenizerError(f"merge {shortened(merge)} is not a pair of tokens: restore the file") from error
    return pairs


def ranked_merges(vocab: Mapping[str, int], pairs: Iterable[Pair]) -> dict[tuple[int, int], tuple[int, int]]:
    """The rank of each pair of ids that merges, and the id that it gives.

    Raises TokenizerError for a merge of tokens that the vocabulary lacks, or that gives one.
    """
    try:
        return {(vocab[left], vocab[right]): (rank, vocab[left + right]) for rank, (left, right) in enumerate(pairs)}
    except KeyError as error:
        raise TokenizerError(
            f"the merges of tokenizer.json have token {shortened(error.args[0])}, which its vocabulary lacks: restore "
            "the file"
        ) from None


def ranks_of(vocab: Mapping[str, int], pairs: Iterable[Pair]) -> dict[bytes, int] | None:
    """The ids of single bytes and merged tokens, or None where the conditions of the module docstring do not hold.

    Other tokens of the vocabulary never come out of the reference, so tiktoken must not know them.
    """
    if any(character not in vocab for character in ALPHABET):
        return None
    numbers = dict(ALPHABET)  # a token's place in time: 0 to 255 for the bytes, then the merges in order
    halves: list[tuple[int, int]] = [(byte, byte) for byte in range(256)]
    spelled = [bytes([byte]) for byte in range(256)]
    byte_ids = {byte: vocab[character] for character, byte in ALPHABET.items()}
    ids = [byte_ids[byte] for byte in range(256)]
    last_id = -1
    for left, right in pairs:
        token = left + right
        first, second, token_id = numbers.get(left), numbers.get(right), vocab.get(token, -1)
        if first is None or second is None or token_id <= last_id:
            return None
        numbers[token] = len(halves)
        halves.append((first, second))
        spelled.append(spelled[first] + spelled[second])
        ids.append(token_id)
        last_id = token_id
    return dict(zip(spelled, ids, strict=True)) if _all_reachable(halves) else None


def _all_reachable(halves: Sequence[tuple[int, int]]) -> bool:
    """Whether the halves of every token meet: whether no merge crosses their boundary before.

    Goes back in time from a token's own merge: undoes the latest merge that ends or starts at the boundary,
    down to single bytes, and asks each time whether the two neighbours there merge while they last. Where one
    rule fits at two overlapping places the left one is merged: hence the + 1 on the right side.
    """
    merged = {pair: number for number, pair in enumerate(halves) if number >= 256}
    for (left, right), until in merged.items():
        while left >= 256 or right >= 256:
            if left > right:
                until, left = left, halves[left][1]  # noqa: PLW2901
            else:
                until, right = right + 1, halves[right][0]  # noqa: PLW2901
            if merged.get((left, right), until) < until:
                return False
    return True
