"""A prefork server, which loads the model once and forks its workers: gunicorn --preload."""

from __future__ import annotations

import concurrent.futures
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from neort import Model
from patience import PATIENCE

pytest.importorskip("gunicorn", reason="gunicorn is not installed, or there is none for this system")

APP = """
import os
import neort

model = neort.load(num_threads={threads})
model.generate("The", max_new_tokens=1)  # so that the parent has a thread, which its workers do not get

def app(environ, start_response):
    text = model.generate("It was a dark night and", max_new_tokens=8).text
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("X-Worker", str(os.getpid()))])
    return [text.encode()]
"""


@pytest.fixture(params=[1, 2], ids=["one-thread", "two-threads"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a server of two workers listens; it ends in good order."""
    (tmp_path / "prefork_app.py").write_text(APP.format(threads=request.param), encoding="utf-8")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "gunicorn", "--preload", "--workers", "2", "--threads", "2"]
    server = subprocess.Popen(
        [*command, "--bind", f"127.0.0.1:{port}", "--chdir", str(tmp_path), "prefork_app:app"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield f"http://127.0.0.1:{port}/"
        server.send_signal(signal.SIGTERM)
        _, err = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0, err.decode()
        assert b"SIGKILL" not in err, err.decode()  # of a worker that does not end by itself
    finally:
        server.kill()
        server.wait()


def fetch(address: str) -> tuple[str, str]:
    """The text, and the worker that it comes from; waits for a server that is still starting."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE) as response:
                return response.read().decode(), response.headers["X-Worker"]
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_workers_that_were_forked_from_a_loaded_model_answer_as_their_parent_would(address: str, model: Model) -> None:
    text = model.generate("It was a dark night and", max_new_tokens=8).text
    answers = []
    deadline = time.monotonic() + PATIENCE
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        while len({worker for _, worker in answers}) < 2 and time.monotonic() < deadline:
            answers += pool.map(fetch, [address] * 8)
    assert {answer for answer, _ in answers} == {text}
    assert len({worker for _, worker in answers}) == 2
