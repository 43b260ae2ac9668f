"""POST /v1/embeddings."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...arrays import Floats
from ..protocol import CLIENT_GONE, as_request_error
from ..protocol.answers import embedding, embedding_list
from ..protocol.requests import EmbeddingRequest
from .contract import Call, Finished, Observer, ServedModel
from .generating import ids_of, prompts_of
from .preparing import Preparing

__all__ = ["embedded"]

TOKENS_AT_ONCE = 4096  # a request that nobody waits for any more ends after so many


async def embedded(
    request: EmbeddingRequest, served: ServedModel, call: Call, observer: Observer, preparing: Preparing
) -> dict[str, Any]:
    """Read the texts in turns, longest first, and return the answer's body. Raises what `Model.embed` does."""
    texts = await preparing.run(functools.partial(_encoded, request, served), call)
    observer.request_started(served.name)
    try:
        vectors: dict[int, Floats] = {}
        for numbers in _turns(texts):
            function = functools.partial(_vectors, served, [texts[i] for i in numbers])
            vectors |= zip(numbers, await preparing.run(function, call), strict=True)
        for text in texts:
            observer.finished(served.name, _figures(len(text), call))
    except BaseException as error:
        gone = isinstance(error, asyncio.CancelledError)
        observer.failed(served.name, CLIENT_GONE if gone else as_request_error(error).status)
        raise
    finally:
        observer.request_ended(served.name)
    entries = [embedding(i, vectors[i], request.encoding_format) for i in range(len(texts))]
    request_id = request.request_id or call.request_id
    return embedding_list(served.name, request_id, int(time.time()), entries, sum(map(len, texts)))


def _encoded(request: EmbeddingRequest, served: ServedModel) -> list[list[int]]:
    room = served.model.spec.max_position_embeddings
    special = request.add_special_tokens is not False
    return [
        ids_of(text, served.model, special=special, truncate=request.truncate_prompt_tokens, room=room)
        for text in prompts_of(request.input)
    ]


def _turns(texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The numbers of the texts that are read at once, longest first."""
    turns: list[list[int]] = []
    size = 0
    for number in sorted(range(len(texts)), key=lambda i: -len(texts[i])):
        size += len(texts[number])
        if not turns or size > TOKENS_AT_ONCE:
            turns.append([])
            size = len(texts[number])
        turns[-1].append(number)
    return turns


def _vectors(served: ServedModel, texts: list[list[int]]) -> Sequence[Floats]:
    vectors: Floats = served.model.embed(texts, normalize=True)
    return list(np.asarray(vectors, np.float32))


def _figures(tokens: int, call: Call) -> Finished:
    seconds = time.perf_counter() - call.arrived
    return Finished("stop", tokens, 0, 0, 0.0, seconds, 0.0, seconds, 0, 0)
