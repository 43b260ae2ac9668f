"""What `neort serve` serves as a deployment of Ray Serve: ``serve run neort.integrations.ray_serve:build insecure=true``.

Ray has the replicas, the proxies that requests come by, and the restarts; what requests get is the application's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from ..bundle import bundled_path
from ..diagnostics import machine_facts
from ..errors import ConfigError, EngineError, MissingExtraError
from ..loading import load
from ..paths import read_regular
from ..server.app import Keys, Settings, create_app
from ..server.app.in_flight import InFlight
from ..server.app.metrics import Metrics
from ..server.handlers import Handlers, Limits, ServedModel
from .ray_serve_options import ServeOptions
from .ray_settings import keep_quiet

keep_quiet()
try:
    from ray import serve
    from starlette.requests import Request
    from starlette.responses import Response
except ImportError as error:
    raise MissingExtraError(
        f"Ray Serve cannot be imported ({error}); install it by: pip install 'neort[ray]'"
    ) from error

__all__ = ["Replica", "build"]

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
NAME = "neort"
ROUTER = f"{__package__}.ray_serve_router.EvenRouter"
REFUSED = 64  # requests beside those with a slot or a place in the queue: to be refused, and those of other routes
DRAINED_WITHIN = 0.5  # seconds after its last request that a replica is seen to have none
HEALTH_EVERY = 2.0  # seconds
LARGEST_TEMPLATE = 1 << 20


def build(args: dict[str, Any]) -> serve.Application:
    """The application that ``serve run`` and ``serve deploy`` are told by ``neort.integrations.ray_serve:build``.

    ``args`` are those of `ServeOptions`. Ray sends a replica more requests than it takes: those beyond its queue are
    refused by the server itself, in OpenAI's form, since Ray's own refusals have another one.

    Raises ArgumentTypeError and ConfigError for arguments of no use. A bundle that cannot be loaded fails its replicas.
    """
    options = ServeOptions.read(args)
    replicas: dict[str, Any] = {"num_replicas": options.replicas}
    if options.max_replicas is not None:
        scaling = {
            "min_replicas": options.replicas,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": options.target,
            "upscale_delay_s": options.upscale_delay,
            "downscale_delay_s": options.downscale_delay,
        }
        replicas = {"autoscaling_config": scaling}
    deployment = serve.deployment(
        Replica,
        name=NAME,
        ray_actor_options={"num_cpus": options.num_threads},
        max_ongoing_requests=options.max_batch_size + options.max_queue + REFUSED,
        graceful_shutdown_timeout_s=options.shutdown_timeout,
        graceful_shutdown_wait_loop_s=DRAINED_WITHIN,
        health_check_period_s=HEALTH_EVERY,
        request_router_config={"request_router_class": ROUTER},
        **replicas,
    )
    return deployment.bind(options)


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
            error = served.model.engine_figures.failed
            if error is not None and not isinstance(error, MemoryError):  # with less to do, that one may go on
                self._running.failed = type(error).__name__
                raise EngineError(f"the model {served.name} has failed ({error}); this replica is to be replaced")


class _Answer(Response):
    """What the application sends, as a response, which is what Ray takes."""

    def __init__(self, application: Any) -> None:
        super().__init__()
        self._application = application

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        """See ASGI."""

        async def handed_on(message: Message) -> None:
            if message["type"] == "http.response.start":  # Ray's proxy names the request's id, too
                fields = [(key, value) for key, value in message["headers"] if key != b"x-request-id"]
                message = {**message, "headers": fields}
            await send(message)

        await self._application(scope, receive, handed_on)


def _served(options: ServeOptions) -> ServedModel:
    """Load a model. Raises what `load` does."""
    path = bundled_path() if options.bundle is None else Path(options.bundle)
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
    return ServedModel(options.name or path.resolve().name, model, int(time.time()), _template(options.chat_template))


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
