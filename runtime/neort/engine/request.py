"""A request for one sequence: takes logits and hands out tokens. With guidance a second sequence runs beside it.

Knows nothing about slots, other requests or text.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..arrays import Ids, Logits
from ..generation import GenerationConfig, LogProbabilities, TokenChooser, TokenLogprob, guided
from ..speculative import Speculator
from .group import Copy, FinishReason, Group, Sequence, Stats

__all__ = ["Request", "TokenSink"]


class TokenSink(Protocol):
    """Where a request's tokens go."""

    def push(self, token_id: int) -> bool:
        """Take one token; True ends the sequence with finish_reason "stop"."""

    def go_on(self) -> None:
        """The token pushed last was not the last one."""

    def finish(self, reason: FinishReason, stats: Stats) -> None:
        """No more tokens will come."""

    def fail(self, error: BaseException) -> None:
        """The request ended in an error: one of neort's, or what a processor of the caller's raised."""


class Request(Group):
    """One sequence to generate.

    Attributes:
        token_ids: the new tokens.
        logprobs: of each new token, where they are asked for; one comes before its token is handed out.
    """

    def __init__(
        self,
        prompt_ids: Ids,
        config: GenerationConfig,
        sink: TokenSink,
        index: int = 0,
        chooser: TokenChooser | None = None,
        negative_ids: Ids | None = None,
    ) -> None:
        """``prompt_ids`` are int64 [T]; ``index`` is that of a return sequence.

        ``chooser`` belongs to this request alone; None: one that does as ``config`` says. Further logits processors
        come in with `TokenChooser.from_config`. ``negative_ids`` are what guidance leads away from, int64 [T]; None:
        the prompt's last token.

        Raises ConfigError where the prompt leaves no token of max_length.
        """
        negative = prompt_ids[-1:] if negative_ids is None else negative_ids
        super().__init__([prompt_ids, negative] if config.guides else [prompt_ids], config, sink)
        config = self.config
        self.sink = sink
        self.index = index
        self.chooser = chooser or TokenChooser.from_config(config, len(prompt_ids), index)
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.speculator: Speculator | None = None
        self.drafted = self.accepted = 0
        self._ids = _GrowingIds(prompt_ids)

    @property
    def active(self) -> list[Sequence]:
        """See `Group.active`."""
        return self.sequences

    @property
    def new_tokens(self) -> int:
        """See `Group.new_tokens`."""
        return len(self.token_ids)

    def take(self, rows: list[Logits]) -> list[Copy]:
        """See `Group.take`; nothing is ever to be copied."""
        if self.done:
            return []
        scores = guided(rows[0], rows[1], self.config.guidance_scale or 0.0) if len(rows) > 1 else rows[0]
        token_id = self.chooser.choose(self._ids.view(), scores)
        if not self.token_ids:
            self.first_token = time.perf_counter()
        if self.config.logprobs is not None:
            self.logprobs.append(LogProbabilities(rows[0], self.config.logprobs).token(token_id))
        self.token_ids.append(token_id)
        for sequence in self.sequences:
            sequence.context.append(token_id)
        self._ids.append(token_id)
        stopped = self.sink.push(token_id)
        stopped |= self.chooser.ends(self._ids.view())
        if stopped or token_id in self.config.eos_token_ids:
            self.finish("stop")
        elif len(self.token_ids) == self.config.max_new_tokens or self.is_late:
            self.finish("length")
        else:
            self.sink.go_on()
        return []

    def stats(self) -> Stats:
        """Return the figures so far."""
        figures = self._stats(len(self.token_ids))
        return dataclasses.replace(figures, drafted_tokens=self.drafted, accepted_tokens=self.accepted)

    def finish(self, reason: FinishReason) -> None:
        """End the request."""
        self.finished = True
        self.sink.finish(reason, self.stats())
        self.done = True  # last: other threads look at it

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
