"""Around the application: who may come in, what every answer's head holds, and a line in the log for each.

Nothing of a request but its method and its path is written anywhere.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from ....errors import NeortError, OutOfMemoryError
from ...protocol import RequestError, as_request_error
from ..bodies import ClientGoneError, Receive, discard, field_of
from ..delivery import Reply, Send
from ..in_flight import InFlight
from ..settings import Settings

__all__ = ["LOG", "Application", "Guard"]

Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Noted = Callable[[str, str, int], object]
LOG = logging.getLogger("neort.server")
LOCAL = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
CLIENTS_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
LONGEST_PATH = 100
GONE, BROKEN = ", the client left", ", broken off by an error"
TOO_SLOW = 408
METHODS = ("GET", "HEAD", "POST", "OPTIONS")
SCHEME = "bearer "
SECURITY_FIELDS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
"""Fields of every answer: no site can have a browser take it for something else, or show it as its own."""


class Guard:
    """An ASGI application around another one, to which it hands a `Reply` as ``scope["reply"]``.

    What that one raises becomes the answer. Every request has an id, which the answer names as X-Request-Id.
    """

    def __init__(
        self,
        application: Application,
        settings: Settings,
        running: InFlight,
        *,
        open_paths: Collection[str],
        local: bool,
        noted: Noted,
    ) -> None:
        """``open_paths`` need no key; ``local`` says that the server listens on loopback; ``noted`` counts answers."""
        self._application, self._settings, self._running = application, settings, running
        self._open_paths, self._local, self._noted = frozenset(open_paths), local, noted

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":  # the server's own beginning and end
            await self._application(scope, receive, send)
            return
        began = time.perf_counter()
        given = field_of(scope, b"x-request-id") or ""
        request_id = given if CLIENTS_ID.fullmatch(given) else uuid.uuid4().hex
        reply = Reply(send, {**SECURITY_FIELDS, "x-request-id": request_id})
        body = _Body(receive)
        scope.update(reply=reply, request_id=request_id, arrived=began)
        try:
            try:
                self._check(scope)
                await self._application(scope, body.receive, send)
            except Exception as error:
                await self._fail(error, scope, reply, body)
        finally:
            self._note(scope, reply, began)

    async def _fail(self, error: Exception, scope: MutableMapping[str, Any], reply: Reply, body: _Body) -> None:
        if isinstance(error, MemoryError) and not isinstance(error, NeortError):
            error = OutOfMemoryError("the system gives no memory for this request; send less at once, or again later")
        if not isinstance(error, (RequestError, ClientGoneError)) and as_request_error(error).status >= 500:
            _log_fault(scope["request_id"], error)
        if not body.complete and not isinstance(error, ClientGoneError) and getattr(error, "status", 0) != TOO_SLOW:
            await discard(scope, body.receive, self._settings)
        await reply.fail(error)

    def _check(self, scope: MutableMapping[str, Any]) -> None:
        """Raise RequestError for a request that may not come in."""
        if len(scope["headers"]) > self._settings.max_fields:
            raise RequestError(
                431,
                f"the head has {len(scope['headers'])} fields; {self._settings.max_fields} are the most; send fewer",
            )
        if field_of(scope, b"transfer-encoding") is not None and field_of(scope, b"content-length") is not None:
            raise RequestError(  # a proxy in front may have taken the other one's word for where the body ends
                400,
                "the head has both Content-Length and Transfer-Encoding, of which one counts; send one",
                headers={"Connection": "close"},
            )
        if scope.get("state", {}).get("crowded"):
            raise RequestError(
                503,
                f"the server has {self._settings.max_connections:,} connections with requests, the most that it takes; "
                "ask again later",
                headers={"Retry-After": "1"},
            )
        self._check_host(scope)
        if self._settings.keys is not None and scope["path"] not in self._open_paths:
            self._check_key(scope)

    def _check_host(self, scope: MutableMapping[str, Any]) -> None:
        """Refuse names that somebody has pointed at this machine, so that a browser takes the server for theirs."""
        host = field_of(scope, b"host") or ""
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        allowed = self._settings.allowed_hosts
        if not self._local or LOCAL.fullmatch(host) or name.lower() in allowed:
            return
        if not host and scope.get("http_version") == "1.0":
            return  # no browser
        raise RequestError(
            403,
            f"the request names the host {host[:LONGEST_PATH]!r}, and this server is for this machine; ask localhost, "
            "or start it with --allowed-host NAME",
        )

    def _check_key(self, scope: MutableMapping[str, Any]) -> None:
        assert self._settings.keys is not None
        given = field_of(scope, b"authorization") or ""
        told = {"WWW-Authenticate": "Bearer"}
        if not given[: len(SCHEME)].lower() == SCHEME:
            raise RequestError(
                401, "there is no key; send the header Authorization: Bearer KEY", code="invalid_api_key", headers=told
            )
        if not self._settings.keys.admit(given[len(SCHEME) :].strip()):
            raise RequestError(
                401, "the key is not one of this server's; check it", code="invalid_api_key", headers=told
            )

    def _note(self, scope: MutableMapping[str, Any], reply: Reply, began: float) -> None:
        route = getattr(scope.get("endpoint"), "path", "other")
        self._noted(
            scope["method"] if route != "other" and scope["method"] in METHODS else "other", route, reply.status
        )
        client = "{}:{}".format(*scope["client"]) if scope.get("client") else "-"
        path = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
        LOG.info(
            "%s %s %s %d %.0f ms %s%s",
            client,
            scope["method"][:16],
            _plain(path),
            reply.status,
            1000 * (time.perf_counter() - began),
            "-" if reply.tokens is None else f"{reply.tokens} tokens",
            "" if reply.error is None else GONE if isinstance(reply.error, ClientGoneError) else BROKEN,
        )


class _Body:
    """What a request's body is received by, and whether all of it has been."""

    def __init__(self, receive: Receive) -> None:
        self.complete = False
        self._receive = receive

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self.complete = self.complete or not message.get("more_body", False)
        return message


def _log_fault(request_id: str, error: Exception) -> None:
    """Say what neort says; of any other error its kind and where it came from, since its text may hold a prompt."""
    if isinstance(error, NeortError):
        LOG.error("request %s failed: %s", request_id, error)
        return
    place = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    LOG.error("request %s failed: %s\n%s", request_id, type(error).__name__, place)


def _plain(path: bytes) -> str:
    """A path for a line of the log, which it can neither end nor colour."""
    text = "".join(chr(each) if 0x21 <= each < 0x7F else f"%{each:02X}" for each in path[: LONGEST_PATH + 1])
    return text if len(text) <= LONGEST_PATH else f"{text[:LONGEST_PATH]}..."
