"""A server's end: what runs comes to its end, what comes is refused, and what has failed is told."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from asgi import Stream, for_ever
from loopback_server import Server, error_of, head_of, read_all, read_answer, until
from neort import EngineError, OutOfMemoryError
from patience import PATIENCE
from releases import QUIET

POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
ASK = (
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
)
READY = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


# The end


def test_a_server_without_requests_ends_at_once() -> None:
    with Server(shutdown_timeout=PATIENCE) as server:
        server.stop()
        assert server.join() == 0
    with pytest.raises(ConnectionRefusedError):
        server.client()


def test_while_a_request_comes_to_its_end_further_ones_are_refused_in_connections_old_and_new() -> None:
    with Server(shutdown_timeout=PATIENCE) as server, server.client() as running, server.client() as idle:
        stream = server.handlers.work = Stream([{"text": "a"}], endless=True)
        running.sendall(ASK)
        until(lambda: server.handlers.calls)
        server.stop()
        until(lambda: error_or_ready(server) == 503)
        assert error_of(server.talk(ASK))[0] == 503
        idle.sendall(ASK)
        status, message = error_of(read_all(idle))
        assert status == 503
        assert "ends" in message
        assert not stream.closed
        running.close()
        assert server.join() == 0


def error_or_ready(server: Server) -> int:
    return head_of(server.talk(READY))[0]


def test_a_request_that_runs_when_the_end_begins_gets_its_whole_answer() -> None:
    with Server(shutdown_timeout=PATIENCE) as server, server.client() as client:
        server.handlers.work = Stream([{"text": "x" * 1000}] * 2000)
        client.sendall(ASK)
        until(lambda: server.handlers.calls)
        server.stop()
        found = read_all(client)
        assert found.count(b"data: {") == 2000
        assert b"data: [DONE]\n\n" in found[-30:]
        assert server.join() == 0


def test_requests_that_take_too_long_for_the_end_are_told() -> None:
    with Server(shutdown_timeout=0.05) as server, server.client() as streaming, server.client() as waiting:
        stream = server.handlers.work = Stream([{"text": "a"}], endless=True)
        streaming.sendall(ASK)
        until(lambda: server.handlers.calls)
        server.handlers.work = for_ever
        waiting.sendall(ASK)
        until(lambda: server.handlers.running)
        server.stop()
        assert error_of(read_all(waiting))[0] == 503
        told = read_all(streaming)
        assert b'data: {"error":' in told
        assert told.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert stream.closed
        assert server.join() == 0


# Failures


def test_a_failed_engine_ends_the_server_with_an_error() -> None:
    with Server(shutdown_timeout=PATIENCE) as server:
        model = server.handlers.models_[0].model
        model.engine_figures = dataclasses.replace(model.engine_figures, failed=EngineError("a run failed"))
        assert server.join() == 1


def test_health_is_bad_from_a_failure_to_the_end_and_what_runs_may_come_to_its_own() -> None:
    with Server(shutdown_timeout=PATIENCE) as server, server.client() as client:
        server.handlers.work = Stream([{"text": "a"}], endless=True)
        client.sendall(ASK)
        until(lambda: server.handlers.calls)
        model = server.handlers.models_[0].model
        model.engine_figures = dataclasses.replace(model.engine_figures, failed=EngineError("a run failed"))
        until(lambda: head_of(server.talk(READY.replace(b"ready", b"health")))[0] == 503)
        assert error_of(server.talk(ASK))[0] == 503
        client.close()
        assert server.join() == 1


def test_a_want_of_memory_is_no_failure_of_the_engine() -> None:
    with Server() as server:
        model = server.handlers.models_[0].model
        model.engine_figures = dataclasses.replace(model.engine_figures, failed=OutOfMemoryError("none left"))
        server._serving._look_at_engines()
        assert error_or_ready(server) == 200
        server.stop()
        assert server.join() == 0


# Signals

PROGRAM = """
import asyncio, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from asgi import FakeHandlers, Stream
from neort.server.app import Settings, listening_socket
from neort.server.app.serving import Serving
handlers = FakeHandlers()
handlers.work = Stream([{"text": "a"}], endless=True)
settings = Settings(port=0, shutdown_timeout=float(sys.argv[1]))
bound = listening_socket(settings)
ready = lambda address: print(address, flush=True)
sys.exit(asyncio.run(Serving(settings, handlers, bound, ready).run()))
"""


@contextmanager
def process(shutdown_timeout: float = PATIENCE) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server in a process of its own, and its port."""
    with subprocess.Popen(
        [sys.executable, *QUIET, "-c", PROGRAM, str(shutdown_timeout)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as started:
        try:
            assert started.stdout is not None
            yield started, int(started.stdout.readline().rpartition(b":")[2])
        finally:
            started.kill()


def streaming(port: int) -> socket.socket:
    """A client in the middle of a stream."""
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    client.sendall(ASK)
    assert read_answer(client)[0] == 200
    return client


@POSIX_ONLY
def test_a_signal_ends_a_server_in_order() -> None:
    with process(0.05) as (server, port), streaming(port) as client:
        server.send_signal(signal.SIGTERM)
        assert read_all(client).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert server.wait(PATIENCE) == 0


@POSIX_ONLY
def test_a_second_signal_ends_it_at_once() -> None:
    with process() as (server, port), streaming(port):
        server.send_signal(signal.SIGINT)
        until(lambda: _refuses(port))
        server.send_signal(signal.SIGINT)
        assert server.wait(PATIENCE) == -signal.SIGINT


def _refuses(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(READY)
        return read_answer(client)[0] == 503


@POSIX_ONLY
def test_a_server_that_is_killed_can_be_started_again_on_its_port_at_once() -> None:
    with process() as (server, port):
        clients = [streaming(port) for _ in range(8)]
        server.kill()
        server.wait(PATIENCE)
        assert all(not read_all(client).endswith(b"0\r\n\r\n") for client in clients)
        with Server(port):
            assert not _refuses(port)
    for client in clients:
        client.close()
