"""A request: what is to be generated, how far it is, and what it has cost.

Takes logits and hands out tokens; knows nothing about slots, other requests or text.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ..arrays import Ids, Logits
from ..errors import NeortError, OutOfMemoryError
from ..generation import GenerationConfig, TokenChooser
from ..kvcache import Pin
from ..speculative import Speculator

__all__ = ["FinishReason", "Request", "Stats", "TokenSink"]

FinishReason = Literal["stop", "length"]


class TokenSink(Protocol):
    """Where a request's tokens go."""

    def push(self, token_id: int) -> bool:
        """Take one token; True ends the sequence with finish_reason "stop"."""

    def finish(self, reason: FinishReason, stats: Stats) -> None:
        """No more tokens will come."""

    def fail(self, error: BaseException) -> None:
        """The request ended in an error: one of neort's, or what a processor of the caller's raised."""


@dataclass(frozen=True)
class Stats:
    """What a request cost.

    Times are wall-clock seconds, so they include the work done for the sequences that ran beside it. Of
    ``drafted_tokens`` (see `neort.load`), ``accepted_tokens`` were those that the model chose. Of ``prompt_tokens``,
    ``reused_tokens`` were not prefilled, since a stored prompt begins with them.
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


class Request:
    """One sequence to generate.

    Attributes:
        context: what the model attends to: the prompt's tokens and the new ones, but for those that were dropped.
        token_ids: the new tokens.
        cached: how many tokens of the context are in the cache.
        pin: keeps the prompt in the engine's prefix cache as long as it lives; set before the request is submitted.
        checked: whether the engine has found that the request can be served.
        done: no more tokens will come: the request is finished, failed or cancelled.
        finished: the request has come to its own end, and its sequence may still be stored.
    """

    def __init__(
        self,
        prompt_ids: Ids,
        config: GenerationConfig,
        sink: TokenSink,
        index: int = 0,
        chooser: TokenChooser | None = None,
    ) -> None:
        """``prompt_ids`` are int64 [T]; ``index`` is that of a return sequence.

        ``chooser`` belongs to this request alone; None: one that does as ``config`` says. Further logits processors
        come in with `TokenChooser.from_config`.
        """
        self.prompt_ids = prompt_ids
        self.config = config
        self.sink = sink
        self.index = index
        self.chooser = chooser or TokenChooser.from_config(config, len(prompt_ids), index)
        self.token_ids: list[int] = []
        self.context: list[int] = prompt_ids.tolist()
        self.cached = 0
        self.pin: Pin | None = None
        self.checked = self.done = self.finished = False
        self.submitted = self.first_token = time.perf_counter()
        self.prefill_seconds = 0.0
        self.speculator: Speculator | None = None
        self.drafted = self.accepted = self.reused = 0
        self._ids = _GrowingIds(prompt_ids)

    def stats(self) -> Stats:
        """Return the figures so far."""
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

    def take(self, logits: Logits) -> None:
        """Choose the next token from ``logits`` [V] and hand it out; end the request where it is complete, or fails.

        A request that is done already takes none. Raises what its chooser or its sink does; the request is to `fail`
        then.
        """
        if self.done:
            return
        token_id = self.chooser.choose(self._ids.view(), logits)
        if not self.token_ids:
            self.first_token = time.perf_counter()
        self.token_ids.append(token_id)
        self.context.append(token_id)
        self._ids.append(token_id)
        stopped = self.sink.push(token_id)
        stopped |= self.chooser.ends(self._ids.view())
        if stopped or token_id in self.config.eos_token_ids:
            self.finish("stop")
        elif len(self.token_ids) == self.config.max_new_tokens:
            self.finish("length")

    def finish(self, reason: FinishReason) -> None:
        """End the request."""
        self.finished = True
        self.sink.finish(reason, self.stats())
        self.done = True  # last: other threads look at it

    def fail(self, error: BaseException) -> None:
        """End the request with an error, unless it is done; memory that is lacking is an OutOfMemoryError."""
        if self.done:
            return
        self.finished = False
        try:
            self.sink.fail(_named(error))
        finally:
            self.done = True

    def fork(self) -> Callable[[Logits], int]:
        """Return a function that chooses the next tokens, one after the other, as the request would.

        It takes logits [V] and raises LogitsError as `TokenChooser.choose` does; the request stays as it is. Raises
        ConfigError where a processor cannot be copied.
        """
        chooser, ids = self.chooser.fork(), _GrowingIds(self._ids.view())

        def choose(logits: Logits) -> int:
            token_id = chooser.choose(ids.view(), logits)
            ids.append(token_id)
            return token_id

        return choose


def _named(error: BaseException) -> BaseException:
    """The error, where it is Python's own for memory as one of neort's."""
    if not isinstance(error, MemoryError) or isinstance(error, NeortError):
        return error
    named = OutOfMemoryError(
        f"there is no memory for the next token ({error}); lower max_batch_size, max_cache_bytes or "
        "prefix_cache_bytes, or give the process more memory"
    )
    named.__cause__ = error
    return named


class _GrowingIds:
    """Token ids that are appended to, and seen as one array without being copied each time."""

    def __init__(self, ids: Ids) -> None:
        self._length = len(ids)
        self._buffer = np.empty(2 * self._length + 16, np.int64)
        self._buffer[: self._length] = ids

    def view(self) -> Ids:
        """All ids, int64 [T], as a view, which later ones leave as it is."""
        return self._buffer[: self._length]

    def append(self, token_id: int) -> None:
        if self._length == len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.empty_like(self._buffer)])
        self._buffer[self._length] = token_id
        self._length += 1


def _rate(tokens: int, seconds: float) -> float:
    return max(tokens, 0) / seconds if seconds > 0 else 0.0
