"""The prefork example, as gunicorn runs it by the settings beside it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import neort
from example_files import EXAMPLES
from patience import PATIENCE
from releases import QUIET

pytest.importorskip("gunicorn", reason="gunicorn is not installed, or there is none for this system")

TEXT = "It was a dark night and"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where two workers listen: on a port that this process holds open for them."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        os.set_inheritable(bound.fileno(), True)
        server = subprocess.Popen(
            [sys.executable, *QUIET, "-m", "gunicorn", "--bind", f"fd://{bound.fileno()}", "app:app"],
            cwd=EXAMPLES / "prefork",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "WEB_CONCURRENCY": "2"},
            pass_fds=[bound.fileno()],
            stderr=subprocess.PIPE,
        )
        try:
            yield "http://{}:{}/".format(*bound.getsockname())
            server.send_signal(signal.SIGTERM)
            _, said = server.communicate(timeout=PATIENCE)
            assert server.returncode == 0, said.decode()
        finally:
            server.kill()
            server.wait()


def ask(address: str, text: str) -> tuple[str, str]:
    """The answer, and the worker that it comes from."""
    with urllib.request.urlopen(address, text.encode(), timeout=PATIENCE) as answer:
        return answer.read().decode(), answer.headers["X-Worker"]


def test_both_workers_write_what_their_parent_would(address: str, model: neort.Model) -> None:
    answers: list[tuple[str, str]] = []
    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            answers += pool.map(ask, [address] * 8, [TEXT] * 8)
            if len({worker for _, worker in answers}) == 2:
                break
    assert {text for text, _ in answers} == {model.generate(TEXT, max_new_tokens=32, do_sample=False).text}
    assert len({worker for _, worker in answers}) == 2


def test_a_request_without_a_text_is_refused_in_a_sentence(address: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        ask(address, "")
    with raised.value as answer:
        assert answer.code == 422
        assert "prompt" in answer.read().decode()
