"""The command `llm`, with the server as one of its models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import neort
from patience import PATIENCE
from served import Served

pytest.importorskip("llm")

PROMPT = "It was a dark night and"


@pytest.mark.parametrize("stream", [True, False])
def test_its_command_prints_the_models_text(server: Served, model: neort.Model, tmp_path: Path, stream: bool) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: local\n  model_name: {server.model}\n  api_base: {server.base_url}\n  completion: true\n"
        f"  can_stream: {str(stream).lower()}\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "llm", "-m", "local", "-o", "temperature", "0", "-o", "max_tokens", "10", PROMPT],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.removesuffix("\n") == model.generate(PROMPT, max_new_tokens=10).text
