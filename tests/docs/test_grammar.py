"""docs/grammar.md: its code runs."""

from __future__ import annotations

import re

import pytest

from folders import ROOT

PYTHON = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "grammar.md").read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("block", PYTHON)
def test_python_blocks_run(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("llguidance")
    exec(compile(block, "grammar.md", "exec"), {})
    assert capsys.readouterr().out.strip()
