"""DRY ("don't repeat yourself"): a penalty that grows with the length of the repetition that a token would continue.

p-e-w 2024, https://github.com/oobabooga/text-generation-webui/pull/5677, in llama.cpp's form, sequence breakers
included.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ...arrays import Ids, Logits
from ...tokenizer import Tokenizer

__all__ = ["Breakers", "Dry", "breakers_of"]

LONGEST_BREAKER, LONGEST_TAIL = 40, 20  # bytes and tokens of a breaker beyond which llama.cpp looks no further
LARGEST_LOG = 88.7228391  # of a float32
KEPT = 64  # breakers of a tokenizer that are remembered

Tails = tuple[tuple[int, ...], ...]


class Breakers:
    """Where repetitions end: tokens that hold a sequence breaker, or begin one that further tokens complete."""

    def __init__(self, heads: Mapping[int, Tails]) -> None:
        """``heads`` are such tokens, each with the tokens that complete a breaker after it: () where it holds one."""
        self._heads = heads
        self._is_head = np.zeros(max(heads, default=-1) + 2, np.bool_)  # the last one stands for all larger ids
        self._is_head[list(heads)] = True

    def __deepcopy__(self, memo: object) -> Breakers:
        return self  # nothing in it ever changes

    def holds(self, token: int) -> bool:
        """Whether a token holds a whole breaker."""
        return () in self._heads.get(token, ())

    def distance(self, ids: Ids) -> int:
        """How many tokens follow the last breaker in ``ids``; all of them where there is none."""
        for position in np.flatnonzero(self._is_head[np.minimum(ids, len(self._is_head) - 1)])[::-1].tolist():
            after = ids[position + 1 : position + 1 + LONGEST_TAIL].tolist()
            lengths = [len(tail) for tail in self._heads[int(ids[position])] if tuple(after[: len(tail)]) == tail]
            if lengths:
                return len(ids) - 1 - int(position) - max(lengths)
        return len(ids)


NO_BREAKERS = Breakers({})


@dataclass(frozen=True)
class Dry:
    """Lowers the logits of tokens that would continue a repetition of at least ``allowed_length`` tokens.

    A token that extends a repetition of n tokens loses multiplier * base ** (n - allowed_length). Repetitions are those
    within the ``last_n`` tokens (-1: all), after the last breaker; a token that holds a breaker loses nothing.
    """

    multiplier: float
    base: float = 1.75
    allowed_length: int = 2
    last_n: int = -1
    breakers: Breakers = field(default=NO_BREAKERS, compare=False)

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        window = ids if self.last_n < 0 else ids[max(len(ids) - self.last_n, 0) :]
        if len(window) <= self.allowed_length:
            return logits
        limit = self.breakers.distance(window)
        if limit < self.allowed_length:
            return logits
        tokens, lengths = self._repetitions(window, limit)
        if not tokens.size:
            return logits
        with np.errstate(over="ignore"):  # the longest rule a token out
            penalties = (self.multiplier * self.base ** (lengths - self.allowed_length)).astype(np.float32)
        penalized: Logits = logits.copy()
        penalized[tokens] = logits[tokens] - penalties
        return penalized

    def _repetitions(self, ids: Ids, limit: int) -> tuple[Ids, NDArray[np.int64]]:
        """The tokens that would continue a repetition and the length of the longest one that each would continue.

        Lengths are no larger than ``limit``, nor than what keeps the penalty finite.
        """
        limit = min(limit, self._longest())
        ends = np.arange(len(ids) - 1)  # of earlier occurrences of the text's last tokens
        longest: dict[int, int] = {}
        for length in range(limit + 1):
            if length >= self.allowed_length:
                longest.update(dict.fromkeys(ids[ends + 1].tolist(), length))
            if length == limit:
                break
            if ends.size and ends[0] < length:  # the text begins there
                ends = ends[1:]
            ends = ends[ids[ends - length] == ids[len(ids) - 1 - length]]
            if not ends.size:
                break
        kept = {token: length for token, length in longest.items() if not self.breakers.holds(token)}
        return np.array(list(kept), np.int64), np.array(list(kept.values()), np.int64)

    def _longest(self) -> int:
        """The length from which on penalties grow no further."""
        largest = int(LARGEST_LOG / math.log(self.base)) if self.base > 1.000001 else 0
        return self.allowed_length + largest if largest > 0 else 2**31


_KNOWN: WeakKeyDictionary[Tokenizer, dict[bytes, dict[int, Tails]]] = WeakKeyDictionary()
_KNOWN_LOCK = threading.Lock()


def breakers_of(strings: Iterable[str], tokenizer: Tokenizer) -> Breakers:
    """Return where text in ``strings`` stands in a tokenizer's tokens; what was found last is remembered."""
    heads: dict[int, Tails] = {}
    for string in strings:
        breaker = string.encode("utf-8", "surrogatepass")[:LONGEST_BREAKER]
        for token, tails in _known_heads(breaker, tokenizer).items():
            heads[token] = (*heads.get(token, ()), *tails)
    return Breakers(heads)


def _known_heads(breaker: bytes, tokenizer: Tokenizer) -> dict[int, Tails]:
    with _KNOWN_LOCK:
        found = _KNOWN.setdefault(tokenizer, {}).get(breaker)
    if found is None:
        found = _heads(breaker, tokenizer)
    with _KNOWN_LOCK:
        known = _KNOWN.setdefault(tokenizer, {})
        known.pop(breaker, None)
        known[breaker] = found  # the last one
        if len(known) > KEPT:
            del known[next(iter(known))]
    return found


def _heads(breaker: bytes, tokenizer: Tokenizer) -> dict[int, Tails]:
    heads = {}
    for token in tokenizer.token_ids:
        tails = tuple(dict.fromkeys(_tails(tokenizer.all_bytes(token), breaker, tokenizer)))
        if tails:
            heads[token] = tails
    return heads


def _tails(text: bytes, breaker: bytes, tokenizer: Tokenizer) -> Iterator[tuple[int, ...]]:
    """What completes a breaker after a token of some text, for each way in which the text holds its beginning."""
    if breaker in text:
        yield ()
        return
    position = text.find(breaker[:1])
    while position >= 0:
        held = len(text) - position
        if text[position:] == breaker[:held]:
            rest = breaker[held:].decode("utf-8", "replace")
            yield tuple(tokenizer.encode(rest, add_special_tokens=False)[:LONGEST_TAIL])
        position = text.find(breaker[:1], position + 1)
