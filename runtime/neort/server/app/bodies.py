"""The body of a request: read within limits of bytes and time, and taken for JSON as its standard has it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NoReturn

from ...wording import shortened
from ..protocol import RequestError
from .settings import Settings

__all__ = ["ClientGoneError", "Receive", "check_media_type", "decoded", "discard", "field_of", "read_body"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
DEEPEST = 64  # lists and objects within each other
REFUSED_BYTES = 2  # times the limit of a body: what is read of a refused one, so that its client reads the answer
MEDIA_TYPE = "application/json"


class ClientGoneError(Exception):
    """The client closed its connection."""


def field_of(scope: MutableMapping[str, Any], name: bytes) -> str | None:
    """The first field of a request's head with a name, which is written in small letters."""
    found = next((value for key, value in scope["headers"] if key == name), None)
    return None if found is None else found.decode("latin-1")


def check_media_type(scope: MutableMapping[str, Any]) -> None:
    """Raise RequestError for a body that is compressed, or that does not say it is JSON.

    A page of another site can have a browser send any body, but only those that are no JSON unasked.
    """
    encoding = field_of(scope, b"content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise RequestError(415, f"the body is compressed ({shortened(encoding)}); send it as it is")
    given = field_of(scope, b"content-type")
    name, _, options = (given or "").partition(";")
    if name.strip().lower() != MEDIA_TYPE:
        told = "not given" if given is None else shortened(given)
        raise RequestError(415, f"Content-Type is {told}; it must be {MEDIA_TYPE}")
    charset = options.replace(" ", "").replace('"', "").lower()
    if charset.startswith("charset=") and charset not in ("charset=utf-8", "charset=utf8"):
        raise RequestError(415, f"Content-Type is {shortened(given)}; JSON is UTF-8: leave the charset out")


async def read_body(scope: MutableMapping[str, Any], receive: Receive, settings: Settings) -> bytes:
    """The whole body. Raises RequestError for one that is too long or too slow, ClientGoneError where it stops."""
    length = field_of(scope, b"content-length")
    if length is not None and length.isdigit() and int(length[:20]) > settings.max_body_bytes:
        raise _too_long(settings)
    parts, size = [], 0
    try:
        async with asyncio.timeout(settings.body_timeout):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                part = message.get("body", b"")
                size += len(part)
                if size > settings.max_body_bytes:
                    raise _too_long(settings)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise RequestError(
            408, f"the body was not complete after {settings.body_timeout:g} s; send it at once, or less of it"
        ) from None


async def discard(scope: MutableMapping[str, Any], receive: Receive, settings: Settings) -> None:
    """Read the rest of a body that is refused, if it is not long: a client that is still sending reads no answer."""
    if field_of(scope, b"expect") is not None:
        return  # it waits for leave, which it does not get
    left = REFUSED_BYTES * settings.max_body_bytes
    try:
        async with asyncio.timeout(settings.head_timeout):
            while left >= 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def decoded(body: bytes) -> object:
    """The value that a body stands for. Raises RequestError for what is no JSON, and numbers that JSON has no word for.

    Members of objects may come twice: the last one counts, as everywhere in Python.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(
            400, f"the body is no UTF-8 text (byte {error.start} is 0x{body[error.start]:02x}); JSON is UTF-8"
        ) from None
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        _check_depth(value)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise RequestError(400, f"the body is no JSON ({_reason(error)}); correct it") from None
    return value


def _reason(error: ValueError) -> str:
    """What is wrong, and where: never the text itself."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return str(error)[:200]


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number there")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


def _check_depth(value: object) -> None:
    """Raise RequestError where lists and objects are too deep within each other for what works on them."""
    level: list[object] = [value]
    for _ in range(DEEPEST):
        level = [
            part
            for each in level
            if isinstance(each, (dict, list))
            for part in (each.values() if isinstance(each, dict) else each)
            if isinstance(part, (dict, list))
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> RequestError:
    return RequestError(
        400, f"the body has more than {DEEPEST} lists and objects within each other; send a flatter one"
    )


def _too_long(settings: Settings) -> RequestError:
    return RequestError(
        413, f"the body is longer than {settings.max_body_bytes:,} bytes, the most that is taken; send less at once"
    )
