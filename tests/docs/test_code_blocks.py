"""The code of every page runs, in the order of the page, and prints what the page shows; what does not says why."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import pytest

import neort
from code_blocks import Block, blocks, indented_lines, same_text
from command_lines import check_usage, run_line
from folders import ROOT
from neort.bundle import bundled_path

CARD = ROOT / "models" / "neort_models" / "neo-books" / "README.md"
PAGES = [ROOT / "README.md", CARD, *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
NOT_CODE = {"text", "{toctree}", "{eval-rst}", "{include}"}
every_page = pytest.mark.parametrize("page", PAGES, ids=IDS)


@pytest.fixture(scope="session")
def same_bits() -> bool:
    """Whether this processor computes the bundled model's golden logits bit for bit, and so the texts on the pages."""
    golden = [check for check in neort.check(bundled_path(), kv_cache="fp32") if "golden" in check.name]
    return bool(golden) and all(check.value == 0 for check in golden)


@every_page
def test_the_blocks_of_a_page_run(page: Path, same_bits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(bundled_path(), tmp_path / "BUNDLE")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.runs:
            try:
                printed = _run_python(block, names) if block.language == "python" else _run_bash(block)
            except neort.MissingExtraError as error:
                pytest.skip(str(error))
            if block.output is not None and same_bits:
                assert same_text(printed, block.output), f"{page}, line {block.line} prints\n{printed}"


@every_page
def test_what_is_not_run_is_marked_with_a_reason_and_is_right_usage(page: Path) -> None:
    for block in blocks(page):
        place = f"{page}, line {block.line}"
        assert block.runs or block.reasons or block.language in NOT_CODE, f"{place} is neither run nor marked"
        assert all(len(reason.split()) >= 3 for reason in block.reasons), f"{place} is not run for no reason"
        if block.language == "bash":
            for line in block.commands():
                check_usage(line)


@every_page
def test_code_has_fences(page: Path) -> None:
    assert not indented_lines(page), "a block that is only indented is never run"


def _run_python(block: Block, names: dict[str, Any]) -> str:
    code = "\n" * (block.line - 1) + block.code  # a traceback has the page's own lines
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(code, str(block.page), "exec"), names)
    return output.getvalue()


def _run_bash(block: Block) -> str:
    return "".join(run_line(line, block.left_out) for line in block.commands())
