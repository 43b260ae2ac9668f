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

EXAMPLES = os.environ.get("NEORT_SCHEMATHESIS_EXAMPLES")  # of each route; by hand thousands
FEW = ["--phases", "fuzzing", "--max-examples", "8"]


def test_every_answer_is_as_the_document_says(server: Served, tmp_path: Path) -> None:
    """What fits the schema may be refused all the same: how many tokens fit is the model's to say, not the schema's."""
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    many = ["--max-examples", EXAMPLES] if EXAMPLES else FEW
    options = ["--exclude-checks", "positive_data_acceptance", "--seed", "1", "--request-timeout", str(PATIENCE)]
    done = subprocess.run(
        [sys.executable, "-c", program, "run", f"{server.url}/openapi.json", "--no-color", *options, *many],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=PATIENCE if EXAMPLES is None else None,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
