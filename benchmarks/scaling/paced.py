"""A server whose answers cost nothing but their way: events at a steady pace, for `benchmarks.scaling.proxies`.

    python -m benchmarks.scaling.paced PORT

serves it by uvicorn, as `neort serve` is; `deployment` is the same application for Ray Serve. Each request gets EVENTS
events of the size that a streamed completion's have, PACE of them a second.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..harness.arguments import script_parser

__all__ = ["EVENT", "EVENTS", "PACE", "Paced", "deployment"]

Message = MutableMapping[str, Any]
EVENTS, PACE = 200, 20
CHOICE = {"index": 0, "text": " dark", "logprobs": None, "finish_reason": None}
CHUNK = {"id": f"cmpl-{'0' * 32}", "object": "text_completion", "created": 1800000000, "model": "gpt-neo-125m-int8"}
EVENT = b"data: " + json.dumps(CHUNK | {"choices": [CHOICE]}, separators=(",", ":")).encode() + b"\n\n"


async def application(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The ASGI application."""
    head = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    loop = asyncio.get_running_loop()
    began = loop.time()
    for i in range(EVENTS):
        await asyncio.sleep(began + i / PACE - loop.time())
        await send({"type": "http.response.body", "body": EVENT, "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


class _Answer(Response):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await application(scope, receive, send)


class Paced:
    """The application as a replica of Ray Serve."""

    async def __call__(self, request: Request) -> Response:
        return _Answer()


def deployment(replicas: int) -> Any:
    """The application of Ray Serve, with the settings of `neort.integrations.ray_serve` that cost time."""
    from ray import serve

    from neort.integrations.ray_serve.application import HEALTH_EVERY

    made = serve.deployment(
        Paced,
        num_replicas=replicas,
        max_ongoing_requests=1000,
        health_check_period_s=HEALTH_EVERY,
        ray_actor_options={"num_cpus": 0.1},
    )
    return made.bind()


def main() -> None:
    import uvicorn

    parser = script_parser(__doc__)
    parser.add_argument("port", type=int)
    port: int = parser.parse_args().port
    uvicorn.run(application, port=port, http="h11", ws="none", lifespan="off", access_log=False, log_level="error")


if __name__ == "__main__":
    main()
