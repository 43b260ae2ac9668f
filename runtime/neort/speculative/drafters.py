"""Proposes tokens that may come next: copied from the text itself, or written by a smaller model.

Knows nothing about whether they are right; see `speculator`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from typing import Literal, Protocol

import numpy as np

from ..arrays import Logits
from ..errors import LogitsError
from ..runner import PREFILL_CHUNK, ModelRunner

__all__ = ["PROMPT_LOOKUP", "Drafter", "Fork", "ModelDrafter", "PromptLookup", "Proposer"]

#: Makes a function that chooses from logits [V], token after token, as the request would; see `Request.fork`.
Fork = Callable[[], Callable[[Logits], int]]

PROMPT_LOOKUP: Literal["prompt-lookup"] = "prompt-lookup"
NGRAMS = (4, 3, 2)  # tokens that a passage must share with the end of the text, best first


class Proposer(Protocol):
    """Follows one sequence."""

    def source(self, context: list[int]) -> Hashable:
        """Return what a proposal would rest on, so that good and bad grounds can be told apart; None: there is none."""

    def propose(self, context: list[int], count: int, fork: Fork) -> list[int]:
        """Return at most ``count`` tokens that may follow ``context``, for which `source` has just found a ground.

        ``fork`` is the request's, for those who choose as it does.
        """


class Drafter(Protocol):
    """Makes a proposer for each sequence; ``cost`` of a drafted token, in decode steps of the model that it helps."""

    cost: float

    def start(self) -> Proposer:
        """Return a proposer for a sequence."""


class PromptLookup:
    """Copies what followed the last occurrence of the text's last few tokens.

    Saxena, Prompt Lookup Decoding (2023); transformers has it as ``prompt_lookup_num_tokens``.
    """

    cost = 0.0

    def start(self) -> Proposer:
        """Return a proposer for a sequence."""
        return _Lookup()


class _Lookup:
    def __init__(self) -> None:
        # Where the last occurrence of an n-gram ends, but for the end of the text itself.
        self._ends: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._found = 0

    def source(self, context: list[int]) -> int | None:
        """Return the length of the longest n-gram that occurs before."""
        for end in range(self._indexed, len(context)):
            for n in NGRAMS:
                if end >= n:
                    self._ends[tuple(context[end - n : end])] = end
        self._indexed = len(context)
        if tuple(context[-NGRAMS[-1] :]) not in self._ends:  # nor can longer ones be
            return None
        for n in NGRAMS:
            found = self._ends.get(tuple(context[-n:])) if len(context) > n else None
            if found is not None:
                self._found = found
                return n
        return None

    def propose(self, context: list[int], count: int, fork: Fork) -> list[int]:
        """Return what followed; a passage that runs into the end of the text goes on with what it has just proposed."""
        text = context[self._found :]
        while len(text) < count:
            text += text
        return text[:count]


class ModelDrafter:
    """A smaller model with the same vocabulary. It has one cache, which holds the sequence that it helped last."""

    def __init__(self, runner: ModelRunner, cost: float) -> None:
        """``runner`` has a slot of its own; ``cost`` is that of a drafted token, see `Drafter`."""
        self.cost = cost
        self._runner = runner
        self._held: list[int] = []  # tokens in the cache

    def start(self) -> Proposer:
        """Return itself: whatever the sequence, it reads what its cache does not hold."""
        return self

    def source(self, context: list[int]) -> Hashable:
        """Return one source, as long as the context fits."""
        return "model" if len(context) < self._runner.spec.max_position_embeddings else None

    def propose(self, context: list[int], count: int, fork: Fork) -> list[int]:
        """Return the draft model's own continuation, chosen as the request chooses."""
        count = min(count, self._runner.spec.max_position_embeddings - len(context))
        choose, proposal = fork(), list[int]()
        try:
            logits = self._read(context)
            while True:
                proposal.append(choose(logits))
                if len(proposal) >= count:
                    return proposal
                logits = self._runner.decode(np.array(proposal[-1:]), np.array([len(self._held)], np.int32))[0]
                self._held.append(proposal[-1])
        except LogitsError:  # what the draft model cannot continue, the other one may
            return proposal

    def _read(self, context: list[int]) -> Logits:
        """Logits [V] after ``context``, of which the cache may hold a part."""
        self._runner.reserve(1, [])
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(self._held, context, strict=False))
        start = min(sum(1 for _ in same), len(context) - 1)
        ids = np.array(context, np.int64)
        self._held = self._held[:start]  # until all of it is read
        for begin in range(start, len(ids), PREFILL_CHUNK):
            chunk = ids[begin : begin + PREFILL_CHUNK]
            logits = self._runner.prefill(0, chunk, begin, int(begin + len(chunk) == len(ids)))
        self._held = context.copy()
        last: Logits = logits[-1]
        return last
