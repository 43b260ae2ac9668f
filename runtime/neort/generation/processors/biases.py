"""Processors that favour or rule out what the caller names: tokens, and sequences of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...arrays import Ids, Logits
from .protocol import RULED_OUT

__all__ = ["AllowedTokens", "SequenceBias", "bad_words", "logit_bias"]

Sequences = Iterable[tuple[tuple[int, ...], float]]


class SequenceBias:
    """Adds a bias to the token that completes a sequence; transformers' SequenceBiasLogitsProcessor.

    What a step costs depends on the sequences that the text's last token may continue, not on how many there are.
    """

    def __init__(self, sequences: Sequences) -> None:
        """``sequences`` are token ids, each with its bias; those of one token hold always."""
        single: dict[int, float] = {}
        self._longer: dict[int, list[tuple[tuple[int, ...], int, float]]] = {}
        for tokens, bias in sequences:
            if len(tokens) == 1:
                single[tokens[0]] = bias
            else:
                self._longer.setdefault(tokens[-2], []).append((tokens[:-1], tokens[-1], bias))
        self._tokens = np.array(list(single), np.int64)
        self._biases = np.array(list(single.values()), np.float32)

    def __deepcopy__(self, memo: object) -> SequenceBias:
        return self  # nothing in it ever changes

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`. Ids outside the vocabulary are ignored."""
        completed = self._completed(ids, logits.shape[0])
        if not (self._tokens.size or completed):
            return logits
        biased: Logits = logits.copy()
        if self._tokens.size:
            known = self._tokens < logits.shape[0]
            with np.errstate(invalid="ignore"):  # of what RemoveInvalid repairs
                biased[self._tokens[known]] += self._biases[known]
        for token, bias in completed.items():
            biased[token] = logits[token] + bias
        return biased

    def _completed(self, ids: Ids, size: int) -> dict[int, np.float32]:
        """The whole bias of each token that completes a longer sequence, its own as a single one included."""
        biases: dict[int, np.float32] = {}
        for prefix, token, bias in self._longer.get(int(ids[-1]), ()) if len(ids) else ():
            if token < size and tuple(ids[-len(prefix) :].tolist()) == prefix:
                earlier = biases[token] if token in biases else self._single(token)
                biases[token] = earlier + np.float32(bias)
        return biases

    def _single(self, token: int) -> np.float32:
        return np.float32(self._biases[self._tokens == token].sum())


def logit_bias(biases: Iterable[tuple[int, float]]) -> SequenceBias:
    """Add a bias to the logits of single tokens; OpenAI's and vLLM's logit_bias."""
    return SequenceBias(((token,), bias) for token, bias in biases)


def bad_words(words: Iterable[tuple[int, ...]], eos_ids: Iterable[int]) -> SequenceBias:
    """Rule out the tokens that complete one of ``words``; transformers' NoBadWordsLogitsProcessor.

    An end-of-text token alone is no bad word: it stays possible.
    """
    ends = {(token,) for token in eos_ids}
    return SequenceBias((word, -np.inf) for word in words if word not in ends)


@dataclass(frozen=True)
class AllowedTokens:
    """Rules out all but ``tokens``; vLLM's allowed_token_ids. Ids outside the vocabulary are ignored."""

    tokens: tuple[int, ...]

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        allowed = [token for token in self.tokens if token < logits.shape[0]]
        kept = np.full_like(logits, RULED_OUT)
        kept[allowed] = logits[allowed]
        return kept
