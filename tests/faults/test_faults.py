"""Calls that are interrupted or fail at random moments, and at lines of the engine: the model goes on as before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from patience import PATIENCE

SABOTAGE = Path(__file__).with_name("sabotage.py")


TRIES = [
    pytest.param("interrupts", 3_000, marks=pytest.mark.skipif(sys.platform == "win32", reason="no signal timers")),
    pytest.param("lines", 120),
    pytest.param("memory", 80, marks=pytest.mark.skipif(sys.platform != "linux", reason="no limit of addresses")),
]


@pytest.mark.parametrize(("kind", "count"), TRIES)
def test_a_model_is_sound_after_whatever_went_wrong(kind: str, count: int) -> None:
    """The table of what was tried is on standard output; a process that hangs or dies has a traceback."""
    done = subprocess.run(
        [sys.executable, str(SABOTAGE), kind, "--count", str(count)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "in all, and the model is sound after each" in done.stdout
