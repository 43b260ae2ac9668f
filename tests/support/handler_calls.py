"""Handlers of the server, asked without a socket."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from neort.server.handlers import Call, Events, Handlers
from patience import PATIENCE

NUMBERS = itertools.count()


def call(**facts: Any) -> Call:
    """A call that came just now."""
    return Call(**{"request_id": f"test{next(NUMBERS)}", "arrived": time.perf_counter(), **facts})


def run(coroutine: Any) -> Any:
    """What a coroutine returns, which does not take for ever."""
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


async def answer(handlers: Handlers, route: str, payload: object, **facts: Any) -> Any:
    """The body of an answer, or the list of a stream's chunks."""
    result = await getattr(handlers, route)(payload, call(**facts))
    if isinstance(result, Events):
        return [chunk async for chunk in result.chunks]
    assert result.status == 200
    return result.body
