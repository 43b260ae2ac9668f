"""A server of two processes, with handlers of a test: how it starts, what it stands, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from loopback_server import error_of, head_of, read_all, read_answer, until
from patience import PATIENCE
from served import started

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

PROGRAM = """
import sys
from pathlib import Path
from fake_source import FakeSource
from neort.errors import NeortError
from neort.server.app import Settings, listening_socket
from neort.server.workers import Job, serve_workers
from neort.workers import Share
if __name__ == "__main__":
    folder, events, patience = Path(sys.argv[1]), int(sys.argv[2]) or None, float(sys.argv[3])
    settings = Settings(port=0, shutdown_timeout=patience)
    job = Job(settings, FakeSource(folder / "words", events))
    ready = lambda address: print(address, flush=True)
    try:
        sys.exit(serve_workers(job, [Share(1)] * 2, listening_socket(settings), ready=ready))
    except NeortError as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""
ASK = (
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
)
GET = "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass
class Server:
    """A server that runs, or has ended."""

    process: subprocess.Popen[str]
    log: Path
    port: int

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def workers(self) -> list[int]:
        """The process ids of workers, by what /proc says or by what the log does."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]

    def client(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def talk(self, request: bytes) -> bytes:
        with self.client() as client:
            client.sendall(request)
            return read_all(client)

    def get(self, path: str) -> bytes:
        return self.talk(GET.format(path).encode())

    def figure(self, name: str) -> float:
        found = re.findall(rf"^neort:{name}(?:{{.*}})? (\S+)$", self.get("/metrics").decode(), re.MULTILINE)
        return sum(map(float, found))

    def streaming(self) -> socket.socket:
        """A client in the middle of a stream."""
        client = self.client()
        client.sendall(ASK)
        assert read_answer(client)[0] == 200
        return client


@contextmanager
def serving(folder: Path, *words: str, events: int = 1, patience: float = PATIENCE) -> Iterator[Server]:
    """A server whose processes do as ``words`` say; the port is 0 where it ends before it is ready."""
    (folder / "words").write_text(" ".join(words))
    log = folder / "log"
    with started(["-c", PROGRAM, str(folder), str(events), str(patience)], log) as (process, line):
        yield Server(process, log, int(line.rpartition(":")[2] or 0))


linux_only = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")


@linux_only
def test_a_worker_that_ends_is_followed_by_another_and_nobody_but_its_own_clients_notices(tmp_path: Path) -> None:
    with (
        serving(tmp_path, events=0, patience=0.05) as server,
        server.streaming() as first,
        server.streaming() as second,
    ):
        server.get("/health")
        assert server.figure("workers") == 2
        counted = server.figure("http_requests_total")
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: "takes its place" in server.said)
        assert server.said.count(f"(process {victim}) was ended by SIGKILL") == 1
        assert len({victim, *server.workers()}) == 3
        assert server.figure("worker_restarts_total") == 1
        assert server.figure("http_requests_total") > counted > 0
        server.process.send_signal(signal.SIGTERM)
        whole = [read_all(each).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for each in (first, second)]
        assert sorted(whole) == [False, True]  # one was the killed worker's; the other took too long for the end
        assert server.process.wait(PATIENCE) == 0


@linux_only
def test_what_runs_comes_to_its_end_and_further_requests_are_refused_by_all_workers(tmp_path: Path) -> None:
    with serving(tmp_path, events=0) as server, server.streaming(), server.streaming() as second:
        workers = server.workers()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: head_of(server.get("/ready"))[0] == 503)
        for _ in range(4):
            assert error_of(server.talk(ASK))[0] == 503
        second.close()
        for pid in workers:  # a service manager tells all processes
            os.kill(pid, signal.SIGTERM)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == -signal.SIGTERM
        until(lambda: not any(Path(f"/proc/{pid}/fd").exists() and os.listdir(f"/proc/{pid}/fd") for pid in workers))


def test_where_a_worker_cannot_load_the_server_ends_with_its_error(tmp_path: Path) -> None:
    with serving(tmp_path, "refuse", "refuse") as server:
        assert server.process.wait(PATIENCE) == 1
        assert re.fullmatch(
            r"BundleError: worker \d \(process \d+\): there is no bundle; give another one\n", server.said
        )


def test_where_a_worker_dies_as_it_loads_the_server_ends_and_says_how(tmp_path: Path) -> None:
    with serving(tmp_path, "ready", "die") as server:
        assert server.process.wait(PATIENCE) == 1
        assert "it was ended by SIGKILL before it was ready" in server.said


@linux_only
def test_where_followers_die_again_and_again_the_server_ends_with_an_error(tmp_path: Path) -> None:
    with serving(tmp_path, "ready", "ready", "die", "refuse", "die") as server:
        os.kill(server.workers()[0], signal.SIGKILL)
        assert server.process.wait(PATIENCE) == 1
        assert "3 workers in a row ended before they were ready; the server ends" in server.said
        assert "there is no bundle" in server.said
        assert "Traceback" not in server.said
