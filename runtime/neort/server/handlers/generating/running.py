"""The sequences of one request while they run."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from ....asynchronous import AsyncStreams
from ....engine import Piece, Stats
from ...protocol import CLIENT_GONE, as_request_error
from ..contract import Call, Finished, Observer
from ..preparing import deadline_of, timed_out

__all__ = ["Running"]


class Running:
    """Context in which a request's sequences run; on leaving, by whatever way, none of them does.

    Tells an observer what becomes of them.
    """

    def __init__(self, name: str, streams: AsyncStreams, call: Call, observer: Observer) -> None:
        """``name`` is the model's; ``streams`` have not begun."""
        self.streams = streams
        self._name, self._call, self._observer = name, call, observer
        self._last: dict[int, float] = {}  # when each sequence had its last token
        self._left = len(streams.collectors)

    async def next(self) -> tuple[int, Piece] | None:
        """The next piece of any sequence with the sequence's number; None at the end of all.

        Raises RequestError at the deadline, and what ended a sequence.
        """
        try:
            number, piece = await self.streams.next(deadline_of(self._call))
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise timed_out(self._call) from None
        self._tell(number, piece)
        return number, piece

    def __enter__(self) -> Running:
        self._observer.request_started(self._name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.streams.cancel()
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            if self._left:
                self._observer.failed(self._name, CLIENT_GONE)
        elif error is not None:
            self._observer.failed(self._name, as_request_error(error).status)
        self._observer.request_ended(self._name)

    def _tell(self, number: int, piece: Piece) -> None:
        now = time.perf_counter()
        if piece.token_ids:
            if number in self._last:
                self._observer.token_gap(self._name, now - self._last[number])
            else:
                self._observer.first_token(self._name, now - self._call.arrived)
            self._last[number] = now
        if piece.stats is not None:
            self._left -= 1
            figures = finished(piece.stats, piece.finish_reason or "stop", now - self._call.arrived)
            self._observer.finished(self._name, figures)


def finished(stats: Stats, reason: str, seconds: float) -> Finished:
    """The figures of a sequence, ``seconds`` after its request arrived."""
    return Finished(
        reason=reason,
        prompt_tokens=stats.prompt_tokens,
        completion_tokens=stats.new_tokens,
        reused_tokens=stats.reused_tokens,
        queue_seconds=stats.queue_seconds,
        prefill_seconds=stats.prefill_seconds,
        decode_seconds=stats.decode_seconds,
        e2e_seconds=seconds,
        drafted=stats.drafted_tokens,
        accepted=stats.accepted_tokens,
    )
