"""Errors in OpenAI's form."""

from __future__ import annotations

import json

import pytest

import neort
from neort.server.protocol import RequestError, as_request_error, error_body


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (neort.PromptError("a"), 400, "invalid_request_error"),
        (neort.ConfigError("a"), 400, "invalid_request_error"),
        (neort.ArgumentTypeError("a"), 400, "invalid_request_error"),
        (neort.PrefixError("a"), 400, "invalid_request_error"),
        (neort.BusyError("a"), 429, "rate_limit_error"),
        (neort.OutOfMemoryError("a"), 503, "overloaded_error"),
        (neort.LogitsError("a"), 422, "invalid_request_error"),
        (neort.EngineError("a"), 500, "server_error"),
        (neort.MissingExtraError("a"), 501, "server_error"),
        (neort.StorageError("a"), 507, "server_error"),
        (RequestError(404, "a"), 404, "not_found_error"),
        (RequestError(401, "a"), 401, "authentication_error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_its_status_and_keeps_its_sentence(error: Exception, status: int, kind: str) -> None:
    told = as_request_error(error)
    assert (told.status, told.type, told.message) == (status, kind, "a")
    assert ("Retry-After" in told.headers) == (isinstance(error, (neort.BusyError, neort.OutOfMemoryError)))


def test_the_engine_s_words_are_those_of_a_request() -> None:
    told = as_request_error(neort.PromptError("lower max_new_tokens, or raise max_queue of neort.load"))
    assert told.message == "lower max_tokens, or raise max_queue where the server is started"


def test_what_went_wrong_inside_is_not_told() -> None:
    told = as_request_error(KeyError("/home/secret"))
    assert told.status == 500
    assert "secret" not in json.dumps(error_body(told))


def test_messages_are_cut_short_and_can_be_written() -> None:
    body = error_body(RequestError(400, "x" * 100_000 + "\ud800", param="prompt"))
    odd = error_body(RequestError(400, "a", param="\ud800" * 1000))
    assert len(json.dumps(odd, ensure_ascii=False).encode("utf-8")) < 1000
    assert len(json.dumps(body)) < 1200
    json.dumps(body, ensure_ascii=False).encode("utf-8")
    assert body["error"]["param"] == "prompt"
    assert body["error"].keys() == {"message", "type", "param", "code"}
