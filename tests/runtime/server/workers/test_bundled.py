"""`neort serve --workers 2` of the bundled model: one server, whichever process answers."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from neort import Model
from patience import PATIENCE
from served import Served, serving

PROMPT = "It was a dark night and"
PREFIX = "It was the best of times, it was the worst of times, " * 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(
        tmp_path_factory.mktemp("served"), "--workers", "2", "--num-threads", "1", "--max-queue", "9"
    ) as served:
        yield served
        if os.name == "posix":
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(PATIENCE) == 0


def test_every_worker_gives_the_model_s_texts_and_metrics_are_of_all(server: Served, model: Model) -> None:

    def ask(seed: int) -> str:
        return server.texts(PROMPT, max_tokens=8, temperature=1.0, seed=seed)[0]

    expected = [model.generate(PROMPT, max_new_tokens=8, do_sample=True, top_k=0, seed=i).text for i in range(12)]
    before = server.metric("neort:generation_tokens_total")
    with ThreadPoolExecutor(6) as pool:
        assert [*pool.map(ask, range(12))] == expected
    assert server.metric("neort:generation_tokens_total") == before + 12 * 8
    answered = re.findall(r'^process_cpu_seconds_total{worker="(\w+)"}', server.get("/metrics"), re.MULTILINE)
    assert answered in (["0", "1", "main"], [])
    assert len({server.get("/v1/models")["data"][0]["created"] for _ in range(4)}) == 1


def test_a_prefix_that_one_worker_has_loaded_all_have_loaded(server: Served) -> None:
    server.post("/v1/prefixes", action="save", filename="a", prompt=PREFIX)
    assert server.post("/v1/prefixes", action="load", filename="a")["held"]
    for action, held in (("load", True), ("release", False)):
        assert server.post("/v1/prefixes", action=action, filename="a")["held"] is held
    for _ in range(4):  # whichever worker is asked
        assert server.refusal("/v1/prefixes", action="release", filename="a")[0] == 404


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_workers_have_cpus_of_their_own_and_one_copy_of_the_weights(server: Served) -> None:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    workers = [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(workers) == 2
    mapped = [
        set(re.findall(r"\S+/weights\.data$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)) for pid in workers
    ]
    assert mapped[0] == mapped[1]
    assert all("neort-packed" in name for name in mapped[0])
    assert mapped[0]
    cpus = [os.sched_getaffinity(pid) for pid in workers]
    allowed = os.sched_getaffinity(0)
    assert cpus[0] | cpus[1] == allowed
    assert len(allowed) < 2 or not cpus[0] & cpus[1]
