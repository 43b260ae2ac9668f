"""What the answers of completions and chats have in common: who they are from, usage, and the order of choices."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from .... import __version__
from ....asynchronous import AsyncStreams
from ....engine import Completion, Piece
from ...protocol.answers import Usage
from ...protocol.logprobs import TokenNames
from ...protocol.requests import GeneratingFields
from ..contract import Call, Observer, ServedModel
from .running import Running

__all__ = ["Form", "Prepared", "answered", "streamed"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A request that is ready to run: its prompts' ids, and ``count`` sequences for each of them, side by side."""

    prompts: Sequence[Sequence[int]]
    count: int
    streams: AsyncStreams


class Form(ABC):
    """Makes the chunks of a stream, or the whole answer, of one request."""

    object_name: str
    chunk_name: str
    id_prefix: str

    def __init__(self, served: ServedModel, request: GeneratingFields, prepared: Prepared, call: Call) -> None:
        self.served, self.prepared, self.call = served, prepared, call
        self.collectors = prepared.streams.collectors
        self.names = TokenNames(served.model.tokenizer.all_bytes, as_ids=request.return_tokens_as_token_ids)
        self._options = request.stream_options
        self._id = f"{self.id_prefix}-{request.request_id or call.request_id}"
        self._created = int(time.time())
        self._begun: set[int] = set()
        self._new_tokens = 0

    @abstractmethod
    def piece(self, number: int, piece: Piece, *, first: bool) -> dict[str, Any]:
        """The choice of a chunk for a piece of sequence ``number``."""

    @abstractmethod
    def choices(self, completions: Sequence[Completion]) -> list[dict[str, Any]]:
        """The choices of the whole answer."""

    def further(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """What the whole answer holds beside."""
        return {}

    def chunk(self, number: int, piece: Piece) -> dict[str, Any]:
        """A chunk of a stream."""
        first = number not in self._begun
        self._begun.add(number)
        self._new_tokens += self.counted(len(piece.token_ids))
        chunk = self._envelope(self.chunk_name, [self.piece(number, piece, first=first)])
        if self._options is not None and self._options.continuous_usage_stats:
            chunk["usage"] = self.usage(self._new_tokens)
        elif self._includes_usage:
            chunk["usage"] = None
        return chunk

    def last_chunk(self) -> dict[str, Any] | None:
        """The chunk of usage after all others, where one is asked for."""
        if not self._includes_usage:
            return None
        return self._envelope(self.chunk_name, []) | {"usage": self.usage(self._new_tokens)}

    def answer(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The whole answer."""
        new_tokens = sum(self.counted(len(each.token_ids)) for each in completions)
        body = self._envelope(self.object_name, self.choices(completions))
        return body | {"usage": self.usage(new_tokens)} | self.further(completions)

    def counted(self, new_tokens: int) -> int:
        """How many of new tokens count."""
        return new_tokens

    def usage(self, new_tokens: int) -> dict[str, Any]:
        """OpenAI's usage, with so many new tokens so far."""
        firsts = [collector.request for collector in self.collectors[:: self.prepared.count]]
        prompt_tokens = sum(len(request.prompt_ids) for request in firsts)
        return Usage(prompt_tokens, new_tokens, sum(request.reused for request in firsts)).body()

    @property
    def _includes_usage(self) -> bool:
        return self._options is not None and self._options.include_usage

    def _envelope(self, object_name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": object_name,
            "created": self._created,
            "model": self.served.name,
            "system_fingerprint": f"neort-{__version__}",
            "choices": choices,
        }


async def answered(form: Form, observer: Observer) -> dict[str, Any]:
    """Run all sequences to their ends, and return the whole answer."""
    with Running(form.served.name, form.prepared.streams, form.call, observer) as running:
        while await running.next() is not None:
            pass
        return form.answer(form.prepared.streams.completions())


async def streamed(form: Form, observer: Observer) -> AsyncGenerator[dict[str, Any], None]:
    """Run all sequences, and yield a chunk for each token."""
    with Running(form.served.name, form.prepared.streams, form.call, observer) as running:
        while (event := await running.next()) is not None:
            yield form.chunk(*event)
        if (last := form.last_chunk()) is not None:
            yield last
