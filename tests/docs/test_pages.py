"""Python code in the pages about pipelines, features and applications runs as it stands."""

from __future__ import annotations

import re

import pytest

from folders import ROOT

PAGES = ["pipelines.md", "features.md", "embedding.md"]
BLOCKS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs_and_says_something(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "a page", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out.strip()
