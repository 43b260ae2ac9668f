"""Connections as clients make them, good and bad ones, on real sockets; handlers do what a test sets."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from asgi import Stream, for_ever
from loopback_server import Server, error_of, head_of, read_all, read_answer, until
from patience import PATIENCE

SHORT = 0.3  # seconds, of a limit that a test runs into
POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
OLD = b"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


LIMITS = {"max_head_bytes": 2000, "max_body_bytes": 1000, "max_fields": 20}


@pytest.fixture(scope="module")
def patient() -> Iterator[Server]:
    with Server(**LIMITS, keep_alive=PATIENCE, head_timeout=PATIENCE, body_timeout=PATIENCE) as server:
        yield server


@pytest.fixture
def server(patient: Server) -> Iterator[Server]:
    """A server for many tests, of which none leaves it a request."""
    yield patient
    patient.handlers.work = None
    until(lambda: patient.handlers.running == 0)


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    """A server that soon gives up what does not come."""
    with Server(**LIMITS, keep_alive=SHORT, head_timeout=SHORT, body_timeout=SHORT) as server:
        yield server


def post(body: bytes, *fields: bytes) -> bytes:
    return POST + b"".join(each + b"\r\n" for each in fields) + b"Content-Length: %d\r\n\r\n" % len(body) + body


# Requests that are none


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /he alth HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /h\xffalth HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nBad Field: 1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        POST + b"Transfer-Encoding: gzip\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 3000,
    ],
)
def test_what_is_no_request_gets_an_error_in_openais_form_and_the_end(server: Server, head: bytes) -> None:
    status, message = error_of(server.talk(head))
    assert status in (400, 501)
    assert "HTTP/1.1" in message or status == 501


def test_too_many_fields_are_refused(server: Server) -> None:
    fields = b"".join(b"X-%d: 1\r\n" % i for i in range(25))
    with server.client() as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n")
        assert read_answer(client)[0] == 431


def test_an_upgrade_to_websockets_is_not_made(server: Server) -> None:
    with server.client() as client:
        client.sendall(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n")
        assert read_answer(client)[0] == 200


# Slow clients


def test_a_connection_without_a_request_is_closed_without_a_word(hasty: Server) -> None:
    assert hasty.talk() == b""


@pytest.mark.parametrize("length", [1, 10, len(POST), len(POST) + 15])
def test_a_head_that_stops_is_given_up(hasty: Server, length: int) -> None:
    status, message = error_of(hasty.talk((POST + b"Content-Length: 2\r\n\r\n")[:length]))
    assert status == 408
    assert f"{SHORT:g} s" in message


def test_a_head_that_stops_in_a_connection_that_had_an_answer_is_given_up(hasty: Server) -> None:
    with hasty.client() as client:
        client.sendall(GET)
        assert read_answer(client)[0] == 200
        client.sendall(POST)
        assert error_of(read_all(client))[0] == 408


def test_a_head_that_comes_byte_by_byte_is_given_up(hasty: Server) -> None:
    with hasty.client() as client:
        client.settimeout(0.01)
        found = b""
        for byte in POST + b"X-Long: " + b"a" * 1500:
            try:
                client.send(bytes([byte]))
                found = client.recv(1)
                break
            except TimeoutError:
                continue
            except OSError:
                break
        client.settimeout(PATIENCE)
        assert error_of(found + read_all(client))[0] == 408


@pytest.mark.parametrize("coding", [b"Content-Length: 50\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"])
def test_a_body_that_stops_is_given_up(hasty: Server, coding: bytes) -> None:
    calls = len(hasty.handlers.calls)
    assert error_of(hasty.talk(POST + coding))[0] == 408
    assert len(hasty.handlers.calls) == calls


def test_a_connection_that_stays_is_closed_after_its_time(hasty: Server) -> None:
    with hasty.client() as client:
        client.sendall(GET)
        assert read_answer(client)[0] == 200
        assert read_all(client) == b""


def test_a_client_that_reads_nothing_loses_its_stream() -> None:
    with Server(write_timeout=0.05) as server, server.client() as client:
        stream = server.handlers.work = Stream([{"text": "x" * (1 << 20)}] * 64)
        client.sendall(post(b"{}"))
        until(lambda: stream.closed)
        assert len(read_all(client)) < 64 << 20


# Clients that leave


def test_a_body_that_is_cut_anywhere_reaches_no_handler(server: Server) -> None:
    calls = len(server.handlers.calls)
    whole = post(b'{"prompt": "a"}')
    for length in range(len(whole)):
        with server.client() as client:
            client.sendall(whole[:length])
    with server.client() as client:
        client.sendall(GET)
        assert read_answer(client)[0] == 200
    assert len(server.handlers.calls) == calls


def test_a_client_that_leaves_after_any_byte_of_a_stream_ends_it(server: Server) -> None:
    streams: list[Stream] = []

    async def work(payload: object) -> Any:
        streams.append(Stream([{"text": "a"}, {"text": "b"}], endless=True))
        return await streams[-1](payload)

    server.handlers.work = work
    with server.client() as client:
        client.sendall(post(b"{}"))
        found = b""
        while b'"b"' not in found:
            found += client.recv(65536)
    for length in range(0, len(found), 7):
        with server.client() as client:
            client.sendall(post(b"{}"))
            left = length
            while left:
                left -= len(client.recv(left))
            if length % 2:  # a reset, not an end
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    until(lambda: server.handlers.running == 0 and all(stream.closed for stream in streams))


@pytest.mark.parametrize("more", [b"", b"\r\n", GET], ids=["nothing", "a line's end", "a request"])
def test_a_client_that_leaves_while_it_waits_ends_its_handler(server: Server, more: bytes) -> None:
    server.handlers.work = for_ever
    with server.client() as client:
        client.sendall(post(b"{}"))
        until(lambda: server.handlers.running == 1)
        client.sendall(more)
    until(lambda: server.handlers.running == 0)


# Kinds of requests


def test_requests_that_follow_each_other_unasked_are_answered_in_their_order(server: Server) -> None:
    with server.client() as client:
        client.sendall(b"".join(post(b'{"n": %d}' % i) for i in range(20)))
        assert [json.loads(read_answer(client)[2])["asked"]["n"] for _ in range(20)] == [*range(20)]


def test_an_old_client_gets_an_answer_and_the_end(server: Server) -> None:
    found = server.talk(
        b"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert head_of(found)[0] == 200
    assert found.endswith(b'{"asked":{}}')


def test_an_old_client_reads_a_stream_to_its_end(server: Server) -> None:
    server.handlers.work = Stream([{"text": "a"}])
    found = server.talk(
        b"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert "transfer-encoding" not in head_of(found)[1]
    assert found.endswith(b'\r\n\r\ndata: {"text":"a"}\n\ndata: [DONE]\n\n')


def test_a_client_that_waits_for_leave_gets_it(server: Server) -> None:
    with server.client() as client:
        client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert read_answer(client)[0] == 100
        client.sendall(b"{}")
        assert read_answer(client)[0] == 200


def test_a_client_that_waits_for_leave_to_send_too_much_is_refused_at_once(server: Server) -> None:
    with server.client() as client:
        client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n")
        assert read_answer(client)[0] == 413


def test_heads_alone_have_no_body_and_other_methods_an_answer(server: Server) -> None:
    with server.client() as client:
        client.sendall(GET.replace(b"GET", b"HEAD"))
        found = b""
        while not found.endswith(b"\r\n\r\n"):
            found += client.recv(1)
        assert head_of(found)[0] == 200
        for method in (b"OPTIONS", b"DELETE", b"BREW"):
            client.sendall(GET.replace(b"GET", method))
            assert read_answer(client)[0] == 405


@pytest.mark.parametrize("size", [1500, 60_000])
@pytest.mark.parametrize("last", [b"Connection: close", b"X-Last: no"])
def test_a_client_that_sends_too_much_reads_why_it_is_refused(server: Server, size: int, last: bytes) -> None:
    with server.client() as client:
        client.sendall(post(b"x" * size, last))
        assert read_answer(client)[0] == 413


def test_a_refused_body_does_not_become_the_next_request(server: Server) -> None:
    with server.client() as client:
        client.sendall(post(GET * 30) + GET)
        assert read_answer(client)[0] == 413
        assert read_answer(client)[::2] == (200, b'{"status":"ok"}')


def test_a_body_with_two_lengths_is_refused_and_what_follows_it_too(server: Server) -> None:
    """A proxy may have taken the other length for the body's, and have another client's request in it."""
    found = server.talk(POST + b"Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET)
    assert error_of(found)[0] == 400
    assert found.count(b"HTTP/1.1 ") == 1


# Many connections


def test_connections_without_a_request_give_way_to_one_that_has_one() -> None:
    with Server(max_connections=8) as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(server.client()) for _ in range(20)]
        for client in idle[:5]:
            with contextlib.suppress(OSError):
                client.sendall(POST)
        last = stack.enter_context(server.client())
        last.sendall(GET)
        assert read_answer(last)[0] == 200
        assert read_all(idle[0]) == b""


def test_requests_beyond_the_connections_are_refused_until_there_is_room() -> None:
    with Server(max_connections=2) as server, contextlib.ExitStack() as stack:
        server.handlers.work = for_ever
        for _ in range(2):
            stack.enter_context(server.client()).sendall(post(b"{}"))
        until(lambda: server.handlers.running == 2)
        with server.client() as further:
            further.sendall(GET)
            status, fields, body = read_answer(further)
            assert (status, fields["retry-after"]) == (503, "1")
            assert "2 connections" in json.loads(body)["error"]["message"]
            stack.close()
            until(lambda: server.handlers.running == 0)
            further.sendall(GET)
            assert read_answer(further)[0] == 200


# Clocks


def test_a_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(timeout=PATIENCE) as server, server.client() as client:
        for jump in (-1e9, 1e9):
            now = time.time()
            monkeypatch.setattr(time, "time", lambda now=now, jump=jump: now + jump)
            client.sendall(post(b"{}"))
            assert read_answer(client)[0] == 200
            monkeypatch.undo()
