"""A group of sequences whose next tokens are decided together: one request for whoever submits it.

Each sequence takes a slot. Knows tokens, figures and how a group ends; knows nothing about slots or text.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol

from ..arrays import Ids, Logits
from ..errors import NeortError, OutOfMemoryError
from ..generation import GenerationConfig, LogProbabilities, TokenLogprob, check_finite
from ..kvcache import Pin

__all__ = ["ChargedTo", "Copy", "FinishReason", "Group", "Sequence", "Stats", "fail"]

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Stats:
    """What a request cost.

    Times are wall-clock seconds, so they include the work done for the sequences that ran beside it. Of
    ``drafted_tokens`` (see `neort.load`), ``accepted_tokens`` were those that the model chose. Of ``prompt_tokens``,
    ``reused_tokens`` were not prefilled, since a stored prompt begins with them. ``queue_seconds`` are those from the
    call to the first run of the prompt's prefill.
    """

    prompt_tokens: int
    new_tokens: int
    time_to_first_token: float
    prefill_seconds: float
    decode_seconds: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    reused_tokens: int = 0
    queue_seconds: float = 0.0

    @property
    def prompt_tokens_per_second(self) -> float:
        """Prefill rate of this prompt alone: of the tokens that were not reused."""
        return _rate(self.prompt_tokens - self.reused_tokens, self.prefill_seconds)

    @property
    def tokens_per_second(self) -> float:
        """Decode rate: tokens after the first, over the time from the first to the last."""
        return _rate(self.new_tokens - 1, self.decode_seconds)


class Sequence:
    """What the model attends to in one slot.

    Attributes:
        group: whose it is.
        context: the prompt's tokens and the new ones, but for those that were dropped.
        cached: how many tokens of the context are in the cache.
        reused: how many of them were copied from a stored prompt.
        logits: those [V] after the context, while the group's other contexts are still to be run.
    """

    def __init__(self, group: Group, prompt_ids: Ids) -> None:
        """``prompt_ids`` are int64 [T]."""
        self.group = group
        self.prompt_ids = prompt_ids
        self.context: list[int] = prompt_ids.tolist()
        self.cached = self.reused = 0
        self.logits: Logits | None = None


@dataclass(frozen=True)
class Copy:
    """Cached positions ``start`` to ``stop`` of one sequence of a group, to be copied to another."""

    source: Sequence
    target: Sequence
    start: int
    stop: int


class Failing(Protocol):
    """Where a group's error goes."""

    def fail(self, error: BaseException) -> None:
        """The request ended in an error: one of neort's, or what a processor of the caller's raised."""


class Group(ABC):
    """One or more sequences, each in a slot of its own.

    Attributes:
        sequences: all of them; the first one holds the prompt.
        pin: keeps the prompt in the engine's prefix cache as long as it lives; set before the request is submitted.
        number: tells who came first.
        checked: whether the engine has found that the request can be served.
        filling: whether contexts are to be run before a token can be chosen; else the request is decoded.
        done: no more tokens will come: the request is finished, failed or cancelled.
        finished: the request has come to its own end, and its first sequence may still be stored.
        prompt_logprobs: of each token of the prompt, where they are asked for; the first one's is None.
    """

    def __init__(self, prompts: list[Ids], config: GenerationConfig, sink: Failing) -> None:
        """``prompts``, int64 [T] each, are those of the sequences.

        Raises ConfigError where the first one leaves no token of max_length.
        """
        self.prompt_ids = prompts[0]
        self.config = config.for_prompt(len(prompts[0]))
        self.sequences = [Sequence(self, prompt) for prompt in prompts]
        self.pin: Pin | None = None
        self.number = 0
        self.filling = True
        self.checked = self.done = self.finished = False
        self.submitted = self.first_token = time.perf_counter()
        self.started: float | None = None
        self.prefill_seconds = 0.0
        self.reused = 0
        self.prompt_logprobs: list[TokenLogprob | None] = []
        self._failing = sink

    @property
    @abstractmethod
    def active(self) -> list[Sequence]:
        """The sequences whose logits `take` wants next, in its order; the others' slots may be overwritten."""

    @property
    @abstractmethod
    def new_tokens(self) -> int:
        """How many tokens follow the prompt so far."""

    @abstractmethod
    def take(self, rows: list[Logits]) -> list[Copy]:
        """Decide on the next tokens from the logits [V] after each of the `active` sequences, and hand them out.

        Ends the request where it is complete. Returns what is to be copied in the cache before the next step. A
        request that is done already takes nothing. Raises what processors or sinks do; the request is to `fail` then.
        """

    @abstractmethod
    def finish(self, reason: FinishReason) -> None:
        """End the request with what there is."""

    def fail(self, error: BaseException) -> None:
        """End the request with an error, unless it is done; memory that is lacking is an OutOfMemoryError."""
        if self.done:
            return
        self.finished = False
        try:
            self._failing.fail(_named(error))
        finally:
            self.done = True  # last: other threads look at it

    def note_prompt(self, rows: Logits, start: int) -> None:
        """Note log-probabilities from the logits, float32 [n, V], after positions ``start`` on of the prompt's context.

        Raises LogitsError where they are NaN.
        """
        context = self.sequences[0].context
        dropped = len(self.prompt_ids) - len(context)
        self.prompt_logprobs = self.prompt_logprobs[: dropped + 1 + start] or [None] * (dropped + 1)
        for position, row in enumerate(rows[: len(context) - 1 - start], start + 1):
            check_finite(row, position)
            likely = LogProbabilities(row, self.config.prompt_logprobs or 0)
            self.prompt_logprobs.append(likely.token(context[position]))

    @property
    def is_late(self) -> bool:
        """Whether the request has taken as long as it may."""
        most = self.config.max_time
        return most is not None and time.perf_counter() - self.submitted > most

    def _stats(self, new_tokens: int) -> Stats:
        """Return the figures so far, for a sequence of so many new tokens."""
        return Stats(
            prompt_tokens=len(self.prompt_ids),
            new_tokens=new_tokens,
            time_to_first_token=self.first_token - self.submitted,
            prefill_seconds=self.prefill_seconds,
            decode_seconds=time.perf_counter() - self.first_token,
            reused_tokens=self.reused,
            queue_seconds=(time.perf_counter() if self.started is None else self.started) - self.submitted,
        )


class ChargedTo:
    """Context in which whatever goes wrong ends this request alone."""

    def __init__(self, request: Group) -> None:
        self._request = request

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if error is not None:
            fail(self._request, error)
        return error is not None


def fail(request: Group, error: BaseException) -> None:
    """End a request with an error; what is no Exception, such as Ctrl-C, is raised besides."""
    request.fail(error)
    if not isinstance(error, Exception):
        raise error


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


def _rate(tokens: int, seconds: float) -> float:
    return max(tokens, 0) / seconds if seconds > 0 else 0.0
