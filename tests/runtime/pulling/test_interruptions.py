"""`neort pull` as a process that is ended in the middle, and the next one that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from loopback_hub import Answer, Hub
from patience import PATIENCE
from published import WEIGHTS, facts_of
from pulls import NAME, Puller

ARRIVED = 1 << 19
SHA256 = facts_of(WEIGHTS)["sha256"]
PROGRAM = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
runpy.run_module("neort", run_name="__main__", alter_sys=True)
"""
COMMAND = [sys.executable, "-c", PROGRAM, "pull", NAME]


def started(puller: Puller) -> subprocess.Popen[str]:
    """A pull of which so much has arrived; the rest does not come."""
    process = subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    waiting = threading.Event()
    for _ in range(PATIENCE * 50):
        if puller.cached.arrived(SHA256) >= ARRIVED:
            return process
        assert process.poll() is None, process.communicate()
        waiting.wait(0.02)
    raise AssertionError("nothing arrives")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("number", "said"), [("SIGKILL", ""), ("SIGINT", "interrupted; what has arrived is kept: the same command goes on")]
)
def test_a_pull_that_is_ended_is_taken_up_by_the_next(number: str, said: str, hub: Hub, puller: Puller) -> None:
    release = threading.Event()
    hub.fault = lambda server, path, asked: (
        Answer(200, body=WEIGHTS, cut=ARRIVED, until=release) if SHA256 in path else None
    )
    with started(puller) as process:
        process.send_signal(getattr(signal, number))
        _, err = process.communicate(timeout=PATIENCE)
    release.set()
    assert process.returncode in (-signal.SIGKILL, 130)
    assert said in err
    assert "Traceback" not in err
    assert not [*puller.cached.folder.rglob("manifest.json")]
    assert puller.cached.partial(SHA256).read_bytes() == WEIGHTS[:ARRIVED]
    hub.fault = lambda *_: None
    hub.requests.clear()
    path = puller().path
    assert Path(path / "weights.data").read_bytes() == WEIGHTS
    asked = [each.headers.get("range") for each in hub.requests if SHA256 in each.path]
    assert asked == [f"bytes={ARRIVED}-"]
