"""A request's tokens as text: pieces as they become certain, and the whole.

Knows what requests hand out; knows nothing about models or engines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

from ..arrays import Ids
from ..generation import GenerationConfig, TokenChooser, TokenLogprob
from ..tokenizer import Tokenizer
from .beams import Beams, Found
from .group import FinishReason, Group, Stats
from .request import Request
from .text import SequenceText

__all__ = ["BeamCollector", "Collecting", "Collector", "Completion", "Piece"]


@dataclass(frozen=True)
class Completion:
    """One generated sequence, without its prompt.

    ``token_ids`` end with the end-of-sequence token or with the stop string's tokens where one of them ended the
    sequence; ``text`` holds neither, nor any special token, unless options ask for them. ``finish_reason`` is "stop"
    for both, and where a stopping criterion is met or a grammar allows nothing more; "length" at ``max_new_tokens``,
    after ``max_time``, or at the end of the context. ``stop_reason`` is the stop string that ended the text, or the id
    of the end-of-text token that did; None where neither did.

    Where they are asked for, ``logprobs`` has an entry for each of ``token_ids``, and ``prompt_logprobs`` one for each
    token of the prompt, None for the first one and for those that did not fit. ``score`` is that of beam search: the
    sum of the tokens' log-probabilities over their number to the power ``length_penalty``.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stats: Stats
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    score: float | None = None
    stop_reason: str | int | None = None


@dataclass(frozen=True)
class Piece:
    """Text that became certain while a sequence is generated; the last one carries ``finish_reason`` and ``stats``.

    It also has the ``stop_reason``, which is that of `Completion`.

    ``token_ids`` are the tokens generated since the piece before, and ``logprobs`` theirs, where they are asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    stats: Stats | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    stop_reason: str | int | None = None


class Collecting(Protocol):
    """What collects the results of one request."""

    @property
    def request(self) -> Group:
        """What is submitted to the engine."""

    @property
    def events(self) -> SimpleQueue[Piece | None]:
        """The pieces of a stream as they become certain, and None at the end of every request."""

    def redirect(self, put: Callable[[Piece | None], object]) -> None:
        """Let a function have the events in the place of the queue, before the request is submitted.

        It is called in the thread that steps, and must neither wait nor raise.
        """

    def completions(self) -> list[Completion]:
        """Return the results, once the request is done. Raises the error that ended it, if one did."""


class Collector:
    """A request's tokens as text: pieces for streams, a completion for the rest.

    Attributes:
        request: what is submitted to the engine.
        events: the pieces of a stream as they become certain, and None at the end of every request.
    """

    def __init__(
        self,
        ids: Ids,
        options: GenerationConfig,
        index: int,
        tokenizer: Tokenizer,
        chooser: TokenChooser | None = None,
        negative_ids: Ids | None = None,
        *,
        streamed: bool = False,
        every_token: bool = False,
    ) -> None:
        """Make the request; arguments are those of `Request`, ``tokenizer`` knows a token's part of the text.

        Only where it is ``streamed`` is there an event for every piece: each wakes who waits. With ``every_token`` each
        token makes a piece, of no text where none is certain yet.
        """
        self.request = Request(ids, options, self, index, chooser, negative_ids)
        self.events: SimpleQueue[Piece | None] = SimpleQueue()
        self._put: Callable[[Piece | None], object] = self.events.put
        self._streamed = streamed
        self._every_token = every_token
        self._sequence = SequenceText(ids, options, tokenizer)
        self._pending: list[int] = []
        self._certain = ""
        self._text: list[str] = []
        self._result: tuple[FinishReason, Stats] | None = None
        self._stop_reason: str | int | None = None
        self._error: BaseException | None = None

    def redirect(self, put: Callable[[Piece | None], object]) -> None:
        """See `Collecting`."""
        self._put = put

    def push(self, token_id: int) -> bool:
        """See `TokenSink`; True after a stop string."""
        self._pending.append(token_id)
        text = self._sequence.push(token_id)
        if self._every_token:
            self._certain = text  # handed out once it is known whether the token was the last one
        elif text:
            self._emit(Piece(text, tuple(self._pending), logprobs=self._logprobs(len(self._pending))))
        return self._sequence.stopped

    def go_on(self) -> None:
        """See `TokenSink`."""
        if self._every_token:
            text, self._certain = self._certain, ""
            self._emit(Piece(text, tuple(self._pending), logprobs=self._logprobs(len(self._pending))))

    def finish(self, reason: FinishReason, stats: Stats) -> None:
        """See `TokenSink`."""
        rest = self._certain + self._sequence.finish()
        self._result = reason, stats
        self._stop_reason = _stop_reason(self._sequence, self.request.token_ids, self.request.config, reason)
        logprobs = self._logprobs(len(self._pending))
        self._emit(Piece(rest, tuple(self._pending), reason, stats, logprobs, self._stop_reason))
        self._put(None)

    def fail(self, error: BaseException) -> None:
        """See `TokenSink`."""
        self._error = error
        self._put(None)

    @property
    def prompt_logprobs(self) -> tuple[TokenLogprob | None, ...] | None:
        """Those of the prompt's tokens, if asked for, once there is a new token; see `Completion`."""
        return _prompt_logprobs(self.request)

    def completion(self) -> Completion:
        """Return the whole result. Raises the error that ended the request, if one did."""
        if self._error is not None:
            raise self._error
        assert self._result is not None  # done without an error means finished
        token_ids = tuple(self.request.token_ids)
        logprobs = self._logprobs(len(token_ids))
        text = "".join(self._text)
        return Completion(text, token_ids, *self._result, logprobs, self.prompt_logprobs, stop_reason=self._stop_reason)

    def completions(self) -> list[Completion]:
        """See `Collecting`."""
        return [self.completion()]

    def _logprobs(self, count: int) -> tuple[TokenLogprob, ...] | None:
        """Those of the last tokens, if asked for."""
        known = self.request.logprobs
        return None if self.request.config.logprobs is None else tuple(known[len(known) - count :])

    def _emit(self, piece: Piece) -> None:
        if self._streamed:
            self._put(piece)
        self._text.append(piece.text)
        self._pending.clear()


class BeamCollector:
    """The sequences that a beam search finds, as completions.

    Attributes:
        request: what is submitted to the engine.
        events: None at the end of the request.
    """

    def __init__(
        self, ids: Ids, options: GenerationConfig, tokenizer: Tokenizer, chooser: TokenChooser | None = None
    ) -> None:
        """Make the request; arguments are those of `Beams`, ``tokenizer`` knows a token's part of the text."""
        self._start = SequenceText(ids, options, tokenizer)
        self.request = Beams(ids, options, self, chooser, self._start if options.stops else None)
        self.events: SimpleQueue[Piece | None] = SimpleQueue()
        self._put: Callable[[Piece | None], object] = self.events.put
        self._found: list[Found] = []
        self._error: BaseException | None = None

    def redirect(self, put: Callable[[Piece | None], object]) -> None:
        """See `Collecting`."""
        self._put = put

    def finish(self, found: list[Found]) -> None:
        """See `BeamSink`."""
        self._found = found
        self._put(None)

    def fail(self, error: BaseException) -> None:
        """See `BeamSink`."""
        self._error = error
        self._put(None)

    def completions(self) -> list[Completion]:
        """See `Collecting`."""
        if self._error is not None:
            raise self._error
        return [self._completion(found) for found in self._found]

    def _completion(self, found: Found) -> Completion:
        text = self._start.fork()
        parts = [text.push(token_id) for token_id in found.token_ids]
        return Completion(
            "".join([*parts, text.finish()]),
            found.token_ids,
            found.reason,
            found.stats,
            None if self.request.config.logprobs is None else found.logprobs,
            _prompt_logprobs(self.request),
            found.score,
            _stop_reason(text, found.token_ids, self.request.config, found.reason),
        )


def _stop_reason(
    text: SequenceText, token_ids: Sequence[int], config: GenerationConfig, reason: FinishReason
) -> str | int | None:
    """The stop string, or else the end-of-text token, that ended a sequence."""
    if text.matched is not None or reason != "stop" or not token_ids:
        return text.matched
    return token_ids[-1] if token_ids[-1] in config.eos_token_ids else None


def _prompt_logprobs(request: Group) -> tuple[TokenLogprob | None, ...] | None:
    """Those of a prompt's tokens, if asked for; of none where the prompt did not run."""
    if request.config.prompt_logprobs is None:
        return None
    return tuple(request.prompt_logprobs) or (None,) * len(request.prompt_ids)
