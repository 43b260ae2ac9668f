"""The application without sockets: routes, keys, hosts, bodies, answers, events, and requests that are ended."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine
from typing import Any, cast

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from asgi import Application, Asked, FakeHandlers, Stream, ask, for_ever, refused
from neort import BusyError, OutOfMemoryError, PromptError
from neort.server.app import Keys, Settings, create_app
from neort.server.app.in_flight import InFlight
from neort.server.handlers import ROUTES, Answer

KEY, OTHER = "0123456789abcdef-one", "0123456789abcdef-two"
POST = "/v1/completions"


def made(
    handlers: FakeHandlers | None = None, *, local: bool = True, **options: Any
) -> tuple[Application, FakeHandlers, InFlight]:
    handlers, running = handlers or FakeHandlers(), InFlight()
    app = create_app(cast(Any, handlers), Settings(**options), running=running, local=local)
    return cast(Application, app), handlers, running


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def asked(method: str, path: str, body: object = b"", fields: dict[str, str] | None = None, **options: Any) -> Asked:
    app, _, _ = made(**options)
    found: Asked = run(ask(app, method, path, body, fields))
    return found


# Routes


@pytest.mark.parametrize("route", [each for each in ROUTES if not each.app], ids=lambda each: each.path)
def test_every_route_of_the_table_reaches_its_handler(route: Any) -> None:
    path = route.path.replace("{model}", "org/name")
    body = {"a": 1} if route.method == "POST" else b""
    found = asked(route.method, path, body)
    assert found.status == 200
    expected = {"a": 1} if route.method == "POST" else ({"model": "org/name"} if "{" in route.path else {})
    assert found.json == {"asked": expected}


def test_what_follows_a_question_mark_is_a_payload_of_get() -> None:
    assert asked("GET", "/tokenizer_info?model=a%2Fb").json == {"asked": {"model": "a/b"}}
    assert asked("GET", "/tokenizer_info?" + "&".join(["a=1"] * 40)).status == 400
    assert asked("GET", "/tokenizer_info?model=%ff").status == 400


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/completions/", "/../etc/passwd", "/%2e%2e/setup", "//", "/static/x"]
)
def test_a_path_that_is_no_route_is_an_error_in_openais_form(path: str) -> None:
    found = asked("GET", path)
    assert found.status == 404
    assert found.error["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", POST, "POST"), ("OPTIONS", POST, "POST"), ("PUT", "/health", "GET, HEAD")]
)
def test_a_method_that_a_route_lacks_names_those_that_it_has(method: str, path: str, allowed: str) -> None:
    found = asked(method, path)
    assert (found.status, found.fields["allow"]) == (405, allowed)
    assert allowed in found.error["message"]


def test_health_version_and_schema_need_no_handler() -> None:
    app, handlers, running = made()
    assert run(ask(app, "GET", "/health")).json == {"status": "ok"}
    assert run(ask(app, "GET", "/ready")).status == 200
    assert "version" in run(ask(app, "GET", "/version")).json
    assert run(ask(app, "GET", "/openapi.json")).json == {"openapi": "3.1.0"}
    running.draining = True
    assert (run(ask(app, "GET", "/health")).status, run(ask(app, "GET", "/ready")).status) == (200, 503)
    running.failed = "RuntimeError"
    assert run(ask(app, "GET", "/health")).status == 503
    assert handlers.calls == []


def test_the_page_asks_no_other_host_and_stands_in_no_frame() -> None:
    found = asked("GET", "/")
    assert found.fields["content-type"] == "text/html; charset=utf-8"
    policy = found.fields["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/health", "/nothing", "/", POST])
def test_every_answer_says_that_it_is_what_it_says(path: str) -> None:
    fields = asked("GET", path).fields
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in fields
    assert "server" not in fields


# Ids


def test_an_answer_names_its_request_by_the_clients_id_or_one_of_its_own() -> None:
    app, handlers, _ = made()
    own = run(ask(app, "POST", POST, {})).fields["x-request-id"]
    assert len(own) == 32
    assert run(ask(app, "POST", POST, {}, {"x-request-id": "mine-1"})).fields["x-request-id"] == "mine-1"
    assert len(run(ask(app, "POST", POST, {}, {"x-request-id": "a b\x7f" * 99})).fields["x-request-id"]) == 32
    assert [call.request_id for call in handlers.calls][:2] == [own, "mine-1"]


# Keys


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer ", f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", KEY]
)
def test_a_request_without_one_of_the_keys_is_refused_before_its_body_is_looked_at(given: str | None) -> None:
    fields = {} if given is None else {"authorization": given}
    found = asked("POST", POST, b"no json", fields, keys=Keys([KEY, OTHER]))
    assert (found.status, found.error["code"]) == (401, "invalid_api_key")
    assert found.fields["www-authenticate"] == "Bearer"
    assert KEY[:10] not in found.body.decode()


@pytest.mark.parametrize("given", [f"Bearer {KEY}", f"bearer {OTHER}", f"Bearer   {KEY} "])
def test_any_of_the_keys_is_enough(given: str) -> None:
    assert asked("POST", POST, {}, {"authorization": given}, keys=Keys([KEY, OTHER])).status == 200


@pytest.mark.parametrize("route", [each for each in ROUTES if each.method == "GET"], ids=lambda each: each.path)
def test_only_what_the_table_opens_needs_no_key(route: Any) -> None:
    assert asked("GET", route.path, keys=Keys([KEY])).status == (200 if route.open else 401)


def test_whoever_has_no_key_does_not_learn_which_paths_there_are() -> None:
    assert asked("GET", "/nothing", keys=Keys([KEY])).status == 401


def test_the_pages_files_need_no_key() -> None:
    app, _, _ = made(keys=Keys([KEY]))
    for name in ("playground.css", "playground.js"):
        assert run(ask(app, "GET", f"/{name}")).status == 200


# Hosts


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:80", "127.1.2.3", "[::1]:8000", "[::1]"])
def test_a_local_server_answers_to_this_machines_names(host: str) -> None:
    assert asked("GET", "/health", b"", {"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:8000",
        "",
        "[::2]",
        "localhost:x",
        "a@localhost",
    ],
)
def test_a_local_server_refuses_names_that_others_point_at_it(host: str) -> None:
    found = asked("GET", "/", b"", {"host": host})
    assert found.status == 403
    assert "--allowed-host" in found.error["message"]


def test_further_names_may_be_allowed_and_a_public_server_has_any() -> None:
    allowed = frozenset({"model.example"})
    assert asked("GET", "/health", b"", {"host": "Model.example:8080"}, allowed_hosts=allowed).status == 200
    assert asked("GET", "/health", b"", {"host": "other.example"}, allowed_hosts=allowed).status == 403
    assert asked("GET", "/health", b"", {"host": "any.example"}, local=False).status == 200


# Bodies


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_a_body_that_a_browser_sends_unasked_is_refused(kind: str) -> None:
    found = asked("POST", POST, {}, {"content-type": kind})
    assert found.status == 415
    assert "application/json" in found.error["message"]


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_json_by_any_spelling_is_taken(kind: str) -> None:
    assert asked("POST", POST, {}, {"content-type": kind}).status == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "zstd"])
def test_compressed_bodies_are_refused(coding: str) -> None:
    assert asked("POST", POST, {}, {"content-encoding": coding}).status == 415


def test_an_endless_body_is_refused_at_its_limit() -> None:
    app, handlers, _ = made(max_body_bytes=100)
    found = run(ask(app, "POST", POST, parts=[b"x" * 60, b"x" * 60, *[b"x" * 60] * 10, b""]))
    assert (found.status, handlers.calls) == (413, [])
    assert "100 bytes" in found.error["message"]


@pytest.mark.parametrize(("parts", "left"), [(5, 0), (100, 79)])
def test_a_refused_body_is_read_on_if_it_is_not_long_so_that_its_client_reads_why(parts: int, left: int) -> None:
    async def scenario() -> None:
        app, _, _ = made(max_body_bytes=100)
        found, pieces = Asked(), [b"x" * 10] * parts

        async def receive() -> Any:
            return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

        head = [(b"host", b"localhost"), (b"content-type", b"text/plain")]
        about = {"type": "http", "method": "POST", "path": POST, "query_string": b"", "headers": head}
        await app(about, receive, found.send)
        assert found.status == 415
        assert len(pieces) == left

    run(scenario())


def test_a_length_beyond_the_limit_is_refused_before_anything_is_read() -> None:
    app, _, _ = made(max_body_bytes=100)
    fields = {"content-length": "1" + "0" * 30, "expect": "100-continue"}
    assert run(ask(app, "POST", POST, fields=fields, parts=[])).status == 413


def test_a_body_that_does_not_come_is_given_up() -> None:
    app, handlers, running = made(body_timeout=0.01, head_timeout=0.01)
    found = run(ask(app, "POST", POST, parts=[b'{"a":']))
    assert (found.status, handlers.calls, len(running)) == (408, [], 0)


def test_a_client_that_goes_away_in_its_body_has_no_answer() -> None:
    app, handlers, running = made()
    found = Asked()
    found.gone.set()
    run(ask(app, "POST", POST, parts=[b'{"a":'], asked=found))
    assert (found.messages, handlers.calls, len(running)) == ([], [], 0)


def test_any_cut_of_a_body_into_parts_gives_the_same_request() -> None:
    body = json.dumps({"prompt": "Ünï日"}, ensure_ascii=False).encode()
    app, _, _ = made()
    for cut in range(len(body) + 1):
        parts = [body[:cut], body[cut:]]

        async def one(parts: list[bytes] = parts) -> Asked:
            found, pieces = Asked(), list(parts)

            async def receive() -> Any:
                if pieces:
                    piece = pieces.pop(0)
                    return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
                await asyncio.Event().wait()

            head = [(b"host", b"localhost"), (b"content-type", b"application/json")]
            about = {"type": "http", "method": "POST", "path": POST, "query_string": b"", "headers": head}
            await app(about, receive, found.send)
            return found

        assert run(one()).json == {"asked": {"prompt": "Ünï日"}}


def test_any_body_cut_short_is_an_error_of_the_client() -> None:
    body = b'{"prompt": "a", "n": [1, 2.5, true, null]}'
    app, handlers, _ = made()
    for length in range(len(body)):
        assert run(ask(app, "POST", POST, body[:length])).status == 400
    assert handlers.calls == []


# Errors


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (refused(422, "wrong", param="n", code="bad"), 422, "invalid_request_error"),
        (PromptError("too long"), 400, "invalid_request_error"),
        (BusyError("full"), 429, "rate_limit_error"),
        (OutOfMemoryError("none"), 503, "overloaded_error"),
        (MemoryError(), 503, "overloaded_error"),
        (RuntimeError("a secret prompt"), 500, "server_error"),
        (KeyError("a secret prompt"), 500, "server_error"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_what_a_handler_raises_before_its_first_part_has_a_status(
    error: Exception, status: int, kind: str, streams: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app, handlers, running = made()

    async def fail(_: object) -> Answer:
        raise error

    handlers.work = Stream([], error) if streams else fail
    found = run(ask(app, "POST", POST, {}))
    assert (found.status, found.error["type"]) == (status, kind)
    assert ("retry-after" in found.fields) == (status in (429, 503))
    assert "secret" not in found.body.decode() + caplog.text
    assert (len(running), found.whole) == (0, True)


def test_the_server_goes_on_after_a_request_without_memory() -> None:
    app, handlers, _ = made()

    async def fail(_: object) -> Answer:
        raise MemoryError

    handlers.work = fail
    assert run(ask(app, "POST", POST, {})).status == 503
    handlers.work = None
    assert run(ask(app, "POST", POST, {})).status == 200
    assert run(ask(app, "GET", "/health")).status == 200


# Events


def test_chunks_become_events_and_done() -> None:
    app, handlers, _ = made()
    stream = handlers.work = Stream([{"text": "a\n\nb"}, {"text": "日\u2028"}, {"text": "\ud800"}])
    found = run(ask(app, "POST", POST, {}))
    assert found.fields["content-type"].startswith("text/event-stream")
    assert found.fields["x-accel-buffering"] == "no"
    assert found.events == [*stream.chunks, "[DONE]"]
    assert stream.closed


def test_no_chunk_at_all_is_done_alone() -> None:
    app, handlers, _ = made()
    handlers.work = Stream([])
    found = run(ask(app, "POST", POST, {}))
    assert (found.status, found.events) == (200, ["[DONE]"])


def test_nothing_is_sent_before_the_first_chunk() -> None:
    async def scenario() -> None:
        app, handlers, running = made()
        stream = handlers.work = Stream([], endless=True)
        found = Asked()
        task = asyncio.ensure_future(ask(app, "POST", POST, {}, asked=found))
        while not len(running) or not handlers.calls:
            await asyncio.sleep(0)
        found.gone.set()
        await task
        assert found.messages == []
        assert stream.closed

    run(scenario())


@pytest.mark.parametrize("error", [refused(400, "late"), BusyError("late"), RuntimeError("late secret")])
def test_an_error_after_the_first_chunk_is_an_event_and_the_end(error: Exception) -> None:
    app, handlers, _ = made()
    handlers.work = Stream([{"text": "a"}], error)
    found = run(ask(app, "POST", POST, {}))
    first, told, last = found.events
    assert (found.status, first, last, found.whole) == (200, {"text": "a"}, "[DONE]", True)
    assert set(told["error"]) == {"message", "type", "param", "code"}
    assert "secret" not in told["error"]["message"]


# Requests that are ended


def test_a_client_that_goes_away_ends_its_handler_at_once() -> None:
    async def scenario() -> None:
        app, handlers, running = made()
        handlers.work = for_ever
        found = Asked()
        task = asyncio.ensure_future(ask(app, "POST", POST, {}, asked=found))
        while not handlers.running:
            await asyncio.sleep(0)
        found.gone.set()
        await task
        assert (handlers.running, len(running), found.messages) == (0, 0, [])

    run(scenario())


@pytest.mark.parametrize("count", range(4))
def test_a_client_that_goes_away_after_any_event_ends_the_stream(count: int) -> None:
    async def scenario() -> None:
        app, handlers, running = made()
        stream = handlers.work = Stream([{"text": str(i)} for i in range(count)], endless=True)
        found = Asked()
        task = asyncio.ensure_future(ask(app, "POST", POST, {}, asked=found))
        await found.until(count + 1 if count else 0)
        while not handlers.calls:
            await asyncio.sleep(0)
        found.gone.set()
        await task
        assert (stream.closed or not count, len(running)) == (True, 0)
        assert not found.whole

    run(scenario())


def test_a_request_that_takes_too_long_gets_its_own_status() -> None:
    app, handlers, running = made(timeout=0.01)
    handlers.work = for_ever
    found = run(ask(app, "POST", POST, {}))
    assert (found.status, handlers.running, len(running)) == (504, 0, 0)


def test_a_stream_that_takes_too_long_ends_with_an_error_event() -> None:
    app, handlers, _ = made(timeout=0.05)
    stream = handlers.work = Stream([{"text": "a"}], endless=True)
    found = run(ask(app, "POST", POST, {}))
    assert [*map(type, found.events)] == [dict, dict, str]
    assert "error" in found.events[1]
    assert stream.closed


def test_a_server_that_ends_tells_running_requests_and_takes_no_further_ones() -> None:
    async def scenario() -> None:
        app, handlers, running = made()
        handlers.work = for_ever
        waiting, streaming, late = Asked(), Asked(), Asked()
        first = asyncio.ensure_future(ask(app, "POST", POST, {}, asked=waiting))
        while not handlers.running:
            await asyncio.sleep(0)
        handlers.work = Stream([{"text": "a"}], endless=True)
        second = asyncio.ensure_future(ask(app, "POST", POST, {}, asked=streaming))
        await streaming.until(2)
        running.draining = True
        await ask(app, "POST", POST, {}, asked=late)
        assert (late.status, late.fields["retry-after"]) == (503, "5")
        assert len(running) == 2
        running.end_all(refused(503, "the end"))
        await running.emptied()
        await asyncio.gather(first, second)
        assert (waiting.status, waiting.error["message"]) == (503, "the end")
        assert streaming.events[1]["error"]["message"] == "the end"

    run(scenario())


def test_a_request_knows_when_it_came_and_how_long_it_may_take() -> None:
    app, handlers, _ = made(timeout=7.0)
    before = time.perf_counter()
    run(ask(app, "POST", POST, {}))
    call = handlers.calls[0]
    assert before <= call.arrived <= time.perf_counter()
    assert call.timeout == 7.0


# The log


def test_the_log_has_a_line_for_each_request_and_no_word_of_its_body_or_query(caplog: pytest.LogCaptureFixture) -> None:
    app, handlers, _ = made()
    with caplog.at_level(logging.INFO, "neort.server"):
        handlers.work = Stream([{"choices": [1]}, {"choices": [2]}, {"choices": [], "usage": {"completion_tokens": 2}}])
        run(ask(app, "POST", POST + "?secret=1", {"prompt": "secret"}))
        run(ask(app, "POST", POST, b"secret"))
        run(ask(app, "GET", "/a\nb\x1b[31m" + "c" * 999))
    first, second, third = [record.getMessage() for record in caplog.records]
    assert first.startswith(f"127.0.0.1:5 POST {POST} 200 ")
    assert first.endswith(" ms 2 tokens")
    assert f"POST {POST} 400 " in second
    assert third.startswith("127.0.0.1:5 GET /a%0Ab%1B[31mccc")
    assert len(third) < 200
    assert "secret" not in caplog.text
    assert "\n" not in first + second + third


def test_an_answer_with_usage_has_its_tokens_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app, handlers, _ = made()

    async def answer(_: object) -> Answer:
        return Answer({"usage": {"completion_tokens": 5}})

    handlers.work = answer
    with caplog.at_level(logging.INFO, "neort.server"):
        run(ask(app, "POST", POST, {}))
    assert caplog.records[0].getMessage().endswith("5 tokens")
