"""The ASGI application: a route for each of the table, the ones that need no model, and the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from ... import __version__
from ..handlers import ROUTES, Call, Handlers, Route
from ..playground import CONTENT_SECURITY_POLICY, page_files
from ..protocol import RequestError
from .access import Guard
from .bodies import Receive, check_media_type, decoded, read_body
from .delivery import Reply, Send, deliver
from .in_flight import InFlight
from .metrics import CONTENT_TYPE, Metrics
from .settings import Settings

__all__ = ["create_app"]

Scope = MutableMapping[str, Any]
PAGE = "index.html"
PAGE_FIELDS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


def create_app(
    handlers: Handlers,
    settings: Settings,
    *,
    running: InFlight | None = None,
    local: bool = True,
    figures: Callable[[], Awaitable[bytes]] | None = None,
) -> Starlette:
    """The application of these handlers; it can be asked without a socket, too.

    ``running`` counts the requests, for who ends the server; ``local`` says that it listens on loopback, where the
    field Host must name this machine; ``figures`` are those of several processes, for `/metrics`.
    """
    running = InFlight() if running is None else running
    observer = handlers.observer
    metrics = observer if isinstance(observer, Metrics) else Metrics(list(handlers.served.values()))
    pages = _pages()
    own = _Own(handlers, running, figures or _figures_of(metrics), pages)
    routes = [_route(each, _answer(each, handlers, settings, running, own)) for each in ROUTES]
    routes += [StarletteRoute(path, _Endpoint(path, own.file(path)), methods=["GET"]) for path in pages if path != "/"]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(
                Guard,
                settings=settings,
                running=running,
                open_paths={*(each.path for each in ROUTES if each.open), *pages},
                local=local,
                noted=metrics.answered,
            )
        ],
        exception_handlers={HTTPException: _raised},
    )
    app.router.redirect_slashes = False
    return app


Answering = Callable[[Scope, Receive, Reply], Any]


class _Endpoint:
    """A route's ASGI application; a class, since starlette takes a function for something else."""

    def __init__(self, path: str, answer: Answering) -> None:
        """``path`` is the route's, for the metrics."""
        self.path, self._answer = path, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope, receive, scope["reply"])


def _route(route: Route, answer: Answering) -> StarletteRoute:
    path = route.path.replace("{model}", "{model:path}")  # names may have slashes
    return StarletteRoute(path, _Endpoint(route.path, answer), methods=[route.method])


def _answer(route: Route, handlers: Handlers, settings: Settings, running: InFlight, own: _Own) -> Answering:
    """What answers the requests of a route."""
    if route.app:
        simple: Answering = getattr(own, route.handler)
        return simple
    handle = getattr(handlers, route.handler)

    async def answer(scope: Scope, receive: Receive, reply: Reply) -> None:
        running.check_open()
        with running.request() as end:
            if route.method == "POST":
                check_media_type(scope)
                payload = decoded(await read_body(scope, receive, settings))
            else:
                payload = {**dict(_query(scope)), **scope["path_params"]}
            call = Call(scope["request_id"], scope["arrived"], settings.timeout)
            until = None if settings.timeout is None else scope["arrived"] + settings.timeout
            await deliver(lambda: handle(payload, call), reply, receive, end, until)

    return answer


def _query(scope: Scope) -> Sequence[tuple[str, str]]:
    try:
        return parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=10, errors="strict")
    except ValueError:
        raise RequestError(400, "the part of the address after ? is not sound; write ?model=NAME") from None


async def _raised(request: Request, error: Exception) -> Response:
    """Answer what starlette refuses: a path that is no route, or a route's with another method."""
    assert isinstance(error, HTTPException)
    method, allowed = request.method[:16], ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
    if error.status_code == 405:
        told = RequestError(405, f"{method} is not taken there; {allowed} is", headers={"Allow": allowed})
    else:
        told = RequestError(
            error.status_code, "there is nothing under this path; GET /openapi.json lists what there is"
        )
    return _Raised(told)


class _Raised(Response):
    """Raises an error where starlette would send an answer: the guard makes one of it, as of all errors."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(status_code=error.status)
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise self._error


class _Own:
    """The routes that ask no model."""

    def __init__(
        self,
        handlers: Handlers,
        running: InFlight,
        figures: Callable[[], Awaitable[bytes]],
        pages: Mapping[str, tuple[bytes, str]],
    ) -> None:
        self._handlers, self._running, self._figures, self._pages = handlers, running, figures, pages
        self._document: Mapping[str, Any] | None = None

    async def health(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        """Whether the process works: not where an engine has failed."""
        failed = self._running.failed is not None
        await reply.document({"status": "failed" if failed else "ok"}, 503 if failed else 200)

    async def ready(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        """Whether requests are taken."""
        self._running.check_open()
        await reply.document({"status": "ok"})

    async def version(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        await reply.document({"version": __version__})

    async def metrics(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        await reply.content(await self._figures(), CONTENT_TYPE)

    async def openapi(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        if self._document is None:
            self._document = self._handlers.openapi()
        await reply.document(self._document)

    async def page(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        await self.file("/")(scope, receive, reply)

    def file(self, path: str) -> Answering:
        """What answers with a file of the page, which is in memory."""

        async def answer(scope: Scope, receive: Receive, reply: Reply) -> None:
            content, media_type = self._pages[path]
            await reply.content(content, media_type, 200, PAGE_FIELDS)

        return answer


def _figures_of(metrics: Metrics) -> Callable[[], Awaitable[bytes]]:
    async def figures() -> bytes:
        return metrics.text()

    return figures


def _pages() -> dict[str, tuple[bytes, str]]:
    """The page's files by their paths, each with its media type."""
    return {"/" if name == PAGE else f"/{name}": file for name, file in page_files().items()}
