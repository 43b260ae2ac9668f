"""schemathesis reads /openapi.json and finds no answer that breaks it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from patience import PATIENCE
from served import Served

pytest.importorskip("schemathesis")

EXAMPLES = os.environ.get("NEORT_SCHEMATHESIS_EXAMPLES", "8")  # of each route; by hand thousands


def test_every_answer_is_as_the_document_says(server: Served, tmp_path: Path) -> None:
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    options = ["--max-examples", EXAMPLES, "--seed", "1", "--request-timeout", str(PATIENCE), "--no-color"]
    done = subprocess.run(
        [sys.executable, "-c", program, "run", f"{server.url}/openapi.json", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
