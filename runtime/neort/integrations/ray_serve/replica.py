"""One replica: a model and the server's application around it, in an actor of Ray's."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...bundle import bundled_path
from ...diagnostics import machine_facts
from ...errors import ConfigError, EngineError
from ...hub import find_bundle, pulled_name
from ...loading import load
from ...paths import read_regular
from ...server.app import Keys, Settings, create_app
from ...server.app.in_flight import InFlight
from ...server.app.metrics import Metrics
from ...server.handlers import Handlers, Limits, ServedModel, failure_of
from .options import ServeOptions

__all__ = ["Replica"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
LARGEST_TEMPLATE = 1 << 20


class Replica:
    """The server's application around a model of its own. Ray makes one in each of its actors, and asks it."""

    def __init__(self, options: ServeOptions) -> None:
        """Load the model: Ray sends no request before. Raises what `neort.load` does, and ConfigError for keys."""
        keys = None if options.api_key_file is None else Keys.from_file(Path(options.api_key_file))
        settings = Settings(keys=keys, insecure=options.insecure, timeout=options.timeout or None)
        served = [_served(options)]
        limits = Limits(
            max_sequences=min(Limits.max_sequences, options.max_batch_size + options.max_queue),
            max_tokens=options.max_tokens,
        )
        self._handlers = Handlers(served, limits, Metrics(served))
        self._running = InFlight()
        self._application = create_app(self._handlers, settings, running=self._running, local=False)

    async def __call__(self, request: Request) -> Response:
        """Answer a request of HTTP."""
        return _Answer(self._application)

    async def check_health(self) -> None:
        """Raise EngineError where the model has failed, so that Ray puts another replica in this one's place."""
        for served in self._handlers.served.values():
            error = failure_of(served)
            if error is not None:
                self._running.failed = type(error).__name__
                raise EngineError(f"the model {served.name} has failed ({error}); this replica is to be replaced")


class _Answer(Response):
    """What the application sends, as a response, which is what Ray takes."""

    def __init__(self, application: Application) -> None:
        super().__init__()
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def hand_on(message: Message) -> None:
            if message["type"] == "http.response.start":  # Ray's proxy names the request's id, too
                fields = [(key, value) for key, value in message["headers"] if key != b"x-request-id"]
                message = {**message, "headers": fields}
            await send(message)

        await self._application(scope, receive, hand_on)


def _served(options: ServeOptions) -> ServedModel:
    """Load a model. Raises what `load` does."""
    given = str(bundled_path()) if options.bundle is None else options.bundle
    path = find_bundle(given)
    name = options.name or (given if pulled_name(given) else path.resolve().name)
    model = load(
        path,
        num_threads=options.num_threads,
        max_batch_size=options.max_batch_size,
        max_queue=options.max_queue,
        max_cache_bytes=options.max_cache_bytes or _cache_bytes(options.num_threads),
        prefix_cache_bytes=options.prefix_cache_bytes,
        kv_cache=options.kv_cache,  # type: ignore[arg-type]  # which load checks
        draft=options.draft,
        packed_weights=options.packed_weights,
    )
    return ServedModel(name, model, int(time.time()), _template(options.chat_template))


def _cache_bytes(threads: int) -> int | None:
    """Half of the node's memory, in the proportion of a replica's threads to its CPUs; None where nobody knows it."""
    facts = machine_facts()
    known = [size for size in (facts.memory, facts.memory_limit) if size is not None]
    return int(min(known) // 2 * min(threads / facts.threads, 1.0)) if known else None


def _template(file: str | None) -> str | None:
    """The text of a chat template. Raises ConfigError for a file that cannot be read."""
    if file is None:
        return None
    try:
        return read_regular(Path(file), LARGEST_TEMPLATE).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(f"{file} cannot be read ({reason}); give a file with a Jinja template") from None
