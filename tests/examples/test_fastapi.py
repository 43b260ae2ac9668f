"""The FastAPI example: one model for all, texts as they come, and nothing left of a client that has gone."""

from __future__ import annotations

import functools
import http.client
import json
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing
from types import ModuleType

import numpy as np
import pytest

from example_files import loaded
from neort.arrays import Ids, Logits
from patience import PATIENCE

pytest.importorskip("fastapi", reason="fastapi is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")

TEXT = "It was a dark night and"


class Served:
    """The example behind uvicorn, in a thread; its lifespan has run when it is entered, and after it is left."""

    def __init__(self) -> None:
        self.example: ModuleType = loaded("fastapi/app.py")
        self._bound = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(uvicorn.Config(self.example.app, lifespan="on", log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._bound]})

    def __enter__(self) -> Served:
        self._thread.start()
        assert self.ask("nothing", method="GET", path="/").status == 404  # it is answered once there is a model
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._bound.close()

    def ask(
        self, text: str, method: str = "POST", path: str = "/continue", **options: object
    ) -> http.client.HTTPResponse:
        """The answer to one request, of which nothing is read yet but the head."""
        host, port = self._bound.getsockname()
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        body = json.dumps({"text": text} | options)
        connection.request(method, path, body, {"Content-Type": "application/json", "Connection": "close"})
        return connection.getresponse()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served() as server:
        yield server


def test_a_text_comes_as_the_model_writes_it(served: Served) -> None:
    expected = served.example.app.state.model.generate(TEXT, max_new_tokens=12, do_sample=False).text
    with closing(served.ask(TEXT, new_tokens=12)) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.read().decode("utf-8") == expected


def test_a_client_that_leaves_ends_its_sequence(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    model = served.example.app.state.model
    most = model.bundle.spec.max_position_embeddings - 20

    def slow(_: Ids, logits: Logits) -> Logits:  # so that the whole text would take seconds
        time.sleep(0.01)
        return np.asarray(logits)

    monkeypatch.setattr(model, "astream", functools.partial(model.astream, logits_processor=[slow]))
    before = model.engine_figures.generated_tokens
    with closing(served.ask(TEXT, new_tokens=most)) as answer:
        assert answer.read1(1) != b""
        assert model.engine_figures.running == 1
    deadline = time.monotonic() + PATIENCE
    while model.engine_figures.running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert model.engine_figures.running == 0
    assert model.engine_figures.generated_tokens - before < most


def test_a_text_that_is_too_long_is_refused_in_a_sentence(served: Served) -> None:
    with closing(served.ask(TEXT * 200)) as answer:
        assert answer.status == 422
        assert "max_new_tokens" in json.load(answer)["detail"]


def test_a_client_is_told_to_come_again_where_too_many_wait(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.example, "MOST_WAITING", 0)
    with closing(served.ask(TEXT)) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")


def test_the_model_goes_when_the_server_ends() -> None:
    with Served() as server:
        model = weakref.ref(server.example.app.state.model)
        assert model() is not None
    assert model() is None
