"""A request's tokens as text: pieces as they become certain, and the whole.

Knows what a request hands out; knows nothing about models or engines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from ..arrays import Ids
from ..generation import GenerationConfig, TokenChooser
from ..tokenizer import TextStream, Tokenizer
from .request import FinishReason, Request, Stats

__all__ = ["Collector", "Completion", "Piece"]

LONGEST_CHARACTER = 4  # tokens, since each is a byte at least


@dataclass(frozen=True)
class Completion:
    """One generated sequence, without its prompt.

    ``token_ids`` end with the end-of-sequence token or with the stop string's tokens where one of them ended the
    sequence; ``text`` holds neither, nor any special token. ``finish_reason`` is "stop" for both, "length" at
    ``max_new_tokens`` or at the end of the context.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stats: Stats


@dataclass(frozen=True)
class Piece:
    """Text that became certain while a sequence is generated; the last one carries ``finish_reason`` and ``stats``.

    ``token_ids`` are the tokens generated since the piece before.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    stats: Stats | None = None


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
        *,
        streamed: bool = False,
    ) -> None:
        """Make the request; arguments are those of `Request`, ``tokenizer`` knows a token's part of the text.

        Only where it is ``streamed`` is there an event for every piece: each wakes who waits.
        """
        self.request = Request(ids, options, self, index, chooser)
        self.events: SimpleQueue[Piece | None] = SimpleQueue()
        self._put: Callable[[Piece | None], object] = self.events.put
        self._streamed = streamed
        self._tokenizer = tokenizer
        self._stream = TextStream(options.stops)
        if options.stops:
            self._stream.follow(_last_text(ids, max(map(len, options.stops)), tokenizer))
        self._pending: list[int] = []
        self._text: list[str] = []
        self._result: tuple[FinishReason, Stats] | None = None
        self._error: BaseException | None = None

    def redirect(self, put: Callable[[Piece | None], object]) -> None:
        """Let a function have the events in the place of the queue, before the request is submitted.

        It is called in the thread that steps, and must neither wait nor raise.
        """
        self._put = put

    def push(self, token_id: int) -> bool:
        """See `TokenSink`; True after a stop string."""
        self._pending.append(token_id)
        text = self._text_of(token_id)
        if text:
            self._emit(Piece(text, tuple(self._pending)))
        return self._stream.stopped

    def _text_of(self, token_id: int) -> str:
        """The text that is certain with one more token, whose own may be none of it but complete a stop string."""
        visible = b"" if token_id in self.request.config.eos_token_ids else self._tokenizer.token_bytes(token_id)
        if visible:
            return self._stream.push(visible)
        return self._stream.push_hidden(self._tokenizer.all_bytes(token_id).decode("utf-8", "replace"))

    def finish(self, reason: FinishReason, stats: Stats) -> None:
        """See `TokenSink`."""
        rest = "" if self._stream.stopped else self._stream.finish()
        self._result = reason, stats
        self._emit(Piece(rest, tuple(self._pending), reason, stats))
        self._put(None)

    def fail(self, error: BaseException) -> None:
        """See `TokenSink`."""
        self._error = error
        self._put(None)

    def completion(self) -> Completion:
        """Return the whole result. Raises the error that ended the request, if one did."""
        if self._error is not None:
            raise self._error
        assert self._result is not None  # done without an error means finished
        return Completion("".join(self._text), tuple(self.request.token_ids), *self._result)

    def _emit(self, piece: Piece) -> None:
        if self._streamed:
            self._put(piece)
        self._text.append(piece.text)
        self._pending.clear()


def _last_text(ids: Ids, length: int, tokenizer: Tokenizer) -> str:
    """The end of a prompt's text, special tokens' included: ``length`` characters, or more, where there are as many."""
    last = ids[-LONGEST_CHARACTER * length :].tolist()
    return b"".join(map(tokenizer.all_bytes, last)).decode("utf-8", "replace")
