"""A request: what is to be generated, how far it is, and what it has cost.

Chooses tokens from logits; knows nothing about slots, other requests or text.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import NeortError
from ..generation import (
    GenerationConfig,
    LogitsProcessor,
    build_processors,
    check_finite,
    greedy,
    make_generator,
    sample,
)
from ..kvcache import Pin
from ..speculative import Speculator

__all__ = ["FinishReason", "Request", "Stats", "TokenSink"]

FinishReason = Literal["stop", "length"]
Ids = NDArray[np.int64]
Logits = NDArray[np.float32]

_NO_IDS = np.empty(0, np.int64)


class TokenSink(Protocol):
    """Where a request's tokens go."""

    def push(self, token_id: int) -> bool:
        """Take one token; True ends the sequence with finish_reason "stop"."""

    def finish(self, reason: FinishReason, stats: Stats) -> None:
        """No more tokens will come."""

    def fail(self, error: NeortError) -> None:
        """The request ended in an error."""


@dataclass(frozen=True)
class Stats:
    """What a request cost.

    Times are wall-clock seconds, so they include the work done for the sequences that ran beside it. Of
    ``drafted_tokens`` (see `neort.load`), ``accepted_tokens`` were those that the model chose. Of ``prompt_tokens``,
    ``reused_tokens`` were not prefilled, since a kept prompt begins with them.
    """

    prompt_tokens: int
    new_tokens: int
    time_to_first_token: float
    prefill_seconds: float
    decode_seconds: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    reused_tokens: int = 0

    @property
    def prompt_tokens_per_second(self) -> float:
        """Prefill rate of this prompt alone: of the tokens that were not reused."""
        return _rate(self.prompt_tokens - self.reused_tokens, self.prefill_seconds)

    @property
    def tokens_per_second(self) -> float:
        """Decode rate: tokens after the first, over the time from the first to the last."""
        return _rate(self.new_tokens - 1, self.decode_seconds)


@dataclass(eq=False)
class Request:
    """One sequence to generate. ``context`` is what the model attends to, ``token_ids`` what it has written.

    Its prompt stays in the engine's prefix cache as long as ``pin`` does.
    """

    prompt_ids: Ids
    config: GenerationConfig
    sink: TokenSink
    index: int = 0
    token_ids: list[int] = field(default_factory=list)
    done: bool = False
    pin: Pin | None = None

    def __post_init__(self) -> None:
        self.context = self.prompt_ids.tolist()
        self.cached = 0  # positions in the cache
        self.rng = make_generator(self.config.seed, self.index)
        self.processors: list[LogitsProcessor] = build_processors(self.config, len(self.prompt_ids))
        self.submitted = self.first_token = time.perf_counter()
        self.prefill_seconds = 0.0
        self.speculator: Speculator | None = None
        self.drafted = self.accepted = self.reused = 0
        self.finished = False  # neither cancelled nor failed

    def stats(self) -> Stats:
        """The figures so far."""
        return Stats(
            prompt_tokens=len(self.prompt_ids),
            new_tokens=len(self.token_ids),
            time_to_first_token=self.first_token - self.submitted,
            prefill_seconds=self.prefill_seconds,
            decode_seconds=time.perf_counter() - self.first_token,
            drafted_tokens=self.drafted,
            accepted_tokens=self.accepted,
            reused_tokens=self.reused,
        )

    def choose(self, logits: Logits) -> int:
        """The next token. Raises LogitsError when ``logits`` [V] are not finite."""
        check_finite(logits, len(self.prompt_ids) + len(self.token_ids))
        ids = np.concatenate([self.prompt_ids, np.asarray(self.token_ids, np.int64)]) if self.processors else _NO_IDS
        for processor in self.processors:
            logits = processor(ids, logits)
        return sample(logits, self.rng) if self.config.do_sample else greedy(logits)

    def rehearse(self) -> Callable[[Logits], int]:
        """A function that chooses as `choose` would the next tokens, one after the other, and changes nothing."""
        twin = copy.copy(self)
        twin.rng, twin.token_ids = copy.deepcopy(self.rng), self.token_ids.copy()

        def choose(logits: Logits) -> int:
            twin.token_ids.append(twin.choose(logits))
            return twin.token_ids[-1]

        return choose


def _rate(tokens: int, seconds: float) -> float:
    return max(tokens, 0) / seconds if seconds > 0 else 0.0
