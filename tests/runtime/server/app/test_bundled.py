"""The bundled model behind real sockets: what clients do to its engine, and what its engine does to clients."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import neort
from loopback_server import Server, error_of, head_of, read_all, read_answer, until
from neort.server.app.metrics import Metrics
from neort.server.handlers import Handlers, ServedModel
from patience import PATIENCE

LONG = {"prompt": "It was a dark", "max_tokens": 480, "ignore_eos": True, "temperature": 0, "stream": True}


def behind(model: neort.Model, **options: Any) -> Server:
    """A server of a model, named "m"."""
    models = [ServedModel("m", model, 0)]
    return Server(handlers=Handlers(models, None, Metrics(models)), **options)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Server, neort.Model]]:
    """A server of two slots, and two places to wait for one."""
    model = neort.load(num_threads=1, max_batch_size=2, max_queue=2)
    with behind(model) as server:
        yield server, model


@pytest.fixture
def server(served: tuple[Server, neort.Model]) -> Iterator[Server]:
    """The server; a test leaves it no sequence."""
    yield served[0]
    until(lambda: idle(served[1]))


def idle(model: neort.Model) -> bool:
    now = model.engine_figures
    return now.running == now.waiting == now.prefilling == 0


def post(body: object, *, close: bool = True) -> bytes:
    content = json.dumps(body).encode()
    return (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + (b"Connection: close\r\n" if close else b"")
        + b"Content-Length: %d\r\n\r\n" % len(content)
        + content
    )


def streaming(server: Server, body: object) -> socket.socket:
    """A client that has seen the head of its stream."""
    client = server.client()
    client.sendall(post(body))
    assert read_answer(client)[0] == 200
    return client


def chunks(answer: bytes) -> list[Any]:
    """Server-sent events of a chunked body, of which each is a chunk."""
    lines = [line for line in answer.split(b"\r\n") if line.startswith(b"data: {")]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


def test_a_stream_is_what_the_model_writes(server: Server, model: neort.Model) -> None:
    with streaming(server, {**LONG, "max_tokens": 40, "ignore_eos": False}) as client:
        found = read_all(client)
    text = "".join(choice["text"] for chunk in chunks(found) for choice in chunk["choices"])
    assert text == model.generate("It was a dark", max_new_tokens=40, do_sample=False).text
    assert found.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(served: tuple[Server, neort.Model], server: Server, stream: bool) -> None:
    with server.client() as client:
        client.sendall(post({**LONG, "stream": stream}))
        until(lambda: served[1].engine_figures.running == 1)
    until(lambda: idle(served[1]))


def test_a_full_queue_is_told_at_once_and_what_runs_goes_on(served: tuple[Server, neort.Model], server: Server) -> None:
    running = [streaming(server, LONG) for _ in range(2)]
    waiting = [server.client() for _ in range(2)]
    for client in waiting:
        client.sendall(post({**LONG, "max_tokens": 1}))
    until(lambda: served[1].engine_figures.waiting == 2)
    answer = server.talk(post(LONG))
    assert error_of(answer)[0] == 429
    assert head_of(answer)[1]["retry-after"] == "1"
    for client in running:
        assert client.recv(1)
        client.close()
    for client in waiting:
        assert read_all(client).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        client.close()


def test_metrics_tell_what_was_done(server: Server) -> None:
    before = figure(server, "generation_tokens_total")
    assert head_of(server.talk(post({"prompt": "A", "max_tokens": 3, "ignore_eos": True})))[0] == 200
    assert figure(server, "generation_tokens_total") == before + 3
    assert figure(server, "num_requests_running") == 0


def figure(server: Server, name: str) -> float:
    answer = server.talk(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").decode()
    found = next(line for line in answer.splitlines() if line.startswith(f"neort:{name}{{"))
    return float(found.split()[-1])


def failing(model: neort.Model, error: BaseException) -> Callable[[], None]:
    """Let every further step of the model's engine fail."""

    def step() -> None:
        raise error

    def sabotage() -> None:
        model._engine.core.step = step  # type: ignore[method-assign]

    return sabotage


def test_a_failed_engine_answers_all_that_wait_and_ends_the_server() -> None:
    model = neort.load(num_threads=1, max_batch_size=2)
    with behind(model, shutdown_timeout=PATIENCE) as server:
        running = [streaming(server, LONG) for _ in range(2)]
        waiting = server.client()
        waiting.sendall(post({**LONG, "stream": False}))
        until(lambda: model.engine_figures.waiting == 1)
        failing(model, RuntimeError("no more"))()
        for client in running:
            assert b'data: {"error":' in read_all(client)
            client.close()
        assert error_of(read_all(waiting))[0] == 500
        waiting.close()
        assert server.join() == 1


def test_a_request_for_which_there_is_no_memory_is_refused_and_the_next_one_served() -> None:
    model = neort.load(num_threads=1)
    with behind(model) as server:
        step = model._engine.core.step
        failing(model, neort.OutOfMemoryError("none left"))()
        assert error_of(server.talk(post({**LONG, "stream": False})))[0] == 503
        model._engine.core.step = step  # type: ignore[method-assign]
        assert head_of(server.talk(post({**LONG, "max_tokens": 2})))[0] == 200


def test_a_request_that_takes_too_long_is_ended_in_the_engine() -> None:
    model = neort.load(num_threads=1)
    with behind(model, timeout=0.05) as server:
        step = model._engine.core.step

        def slow() -> Any:
            time.sleep(0.01)
            return step()

        model._engine.core.step = slow  # type: ignore[method-assign]
        status, _ = error_of(server.talk(post({**LONG, "stream": False})))
        assert status == 504
        until(lambda: idle(model))
