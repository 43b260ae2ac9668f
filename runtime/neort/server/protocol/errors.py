"""Errors as OpenAI's clients know them: a status, and a body that says what is wrong with which parameter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import (
    ArgumentTypeError,
    BusyError,
    ConfigError,
    LogitsError,
    MissingExtraError,
    NeortError,
    OutOfMemoryError,
    PrefixError,
    PromptError,
    StorageError,
    UnsupportedError,
)

__all__ = ["CLIENT_GONE", "LONGEST_MESSAGE", "RequestError", "as_request_error", "error_body", "error_type"]

LONGEST_MESSAGE = 1000  # characters of a message: a request may hold megabytes, its error does not
LONGEST_PARAM = 100
CLIENT_GONE = 499  # the status of a request whose client went away, as nginx has it
RETRY_AFTER = 1  # seconds

WORDS = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "num_return_sequences": "n",
    "stop_strings": "stop",
}
OPTION = re.compile(rf"\b({'|'.join(WORDS)})\b")

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_STATUSES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], int], ...] = (
    ((PromptError, ConfigError, ArgumentTypeError, UnsupportedError, PrefixError), 400),
    (LogitsError, 422),  # but for a damaged bundle, options that leave no token
    (BusyError, 429),
    (OutOfMemoryError, 503),
    (MissingExtraError, 501),
    (StorageError, 507),
)


class RequestError(Exception):
    """A request that gets an error for an answer.

    Attributes:
        status: of the HTTP response.
        message: one sentence that names the value, the limit and the remedy.
        type: the kind of error, by names that OpenAI's and like servers have.
        param: the field of the request that it is about, if it is about one.
        code: a short name for programs, if there is one.
        headers: further ones of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``type`` follows from ``status`` where it is None."""
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.type = error_type(status) if type is None else type
        self.headers = dict(headers or {})


def error_type(status: int) -> str:
    """The name of the kind of error that a status stands for."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def as_request_error(error: BaseException) -> RequestError:
    """What a client is told about an error.

    One that neort raises on purpose is told as it is; of any other only that it happened, since its text may hold
    anything.
    """
    if isinstance(error, RequestError):
        return error
    if not isinstance(error, NeortError):
        return RequestError(500, "the server failed at this request; its log says why", code="internal_error")
    for kinds, status in _STATUSES:
        if isinstance(error, kinds):
            headers = {"Retry-After": str(RETRY_AFTER)} if status in (429, 503) else None
            return RequestError(status, _in_requests_words(str(error)), headers=headers)
    return RequestError(500, str(error))


def _in_requests_words(message: str) -> str:
    """A message about `Model.generate` as one about a request."""
    message = message.replace("of neort.load", "where the server is started")
    return re.sub(OPTION, lambda word: WORDS[word[0]], message)


def error_body(error: RequestError) -> dict[str, Any]:
    """The JSON document of an error, whose texts are cut short and can be written in UTF-8."""
    message = error.message
    if len(message) > LONGEST_MESSAGE:
        half = (LONGEST_MESSAGE - 5) // 2
        message = f"{message[:half]} ... {message[-half:]}"
    param = None if error.param is None else _writable(error.param[:LONGEST_PARAM])
    return {"error": {"message": _writable(message), "type": error.type, "param": param, "code": error.code}}


def _writable(text: str) -> str:
    """The text with lone surrogates, which are no characters, as Python escapes them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
