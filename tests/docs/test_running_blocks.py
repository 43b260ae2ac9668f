"""How blocks of a page are read and run: what is left out, what must be there, and which outputs are equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from code_blocks import blocks, indented_lines, same_text
from command_lines import check_usage, run_line

PAGE = """
```bash
echo a \\
  b > words
cat words | cat words
# a remark
```

```text
a b
```

Other text.

<!-- not run (pip install): it is there -->
<!-- not run (neort bench): takes a minute -->
```bash
pip install . && echo c
neort bench BUNDLE
```

<!-- not run: takes an hour -->
```python
1 / 0
```

```text
no output: the block before it does not run
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "page.md"
    file.write_text(PAGE, encoding="utf-8")
    return file


def test_a_text_right_after_a_block_that_runs_is_its_output(page: Path) -> None:
    assert [block.output for block in blocks(page)] == ["a b\n", None, None, None, None]


def test_a_block_has_the_line_of_its_first_code(page: Path) -> None:
    lines = PAGE.split("\n")
    assert [lines[block.line - 1] for block in blocks(page)][:3] == ["echo a \\", "a b", "pip install . && echo c"]


def test_a_mark_leaves_a_block_out_or_some_of_its_commands(page: Path) -> None:
    first, _, second, third, _ = blocks(page)
    assert (first.runs, second.runs, third.runs) == (True, True, False)
    assert [run_line(line, second.left_out) for line in second.commands()] == ["c\n", ""]
    assert third.reasons == ("takes an hour",)


def test_commands_have_pipes_and_files(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(page.parent)
    assert "".join(map(run_line, blocks(page)[0].commands())) == "a b\n"


def test_other_commands_must_be_marked() -> None:
    with pytest.raises(ValueError, match="mark the block as not run"):
        run_line("curl http://127.0.0.1")


def test_a_command_that_fails_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match="ended with 1"):
        run_line("neort generate '' --max-new-tokens 1")
    assert "the prompt is empty" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["neort generate A --no-such-option > file", "neort-export A -o B --no-such-option"])
def test_usage_is_checked_without_running(line: str) -> None:
    check_usage("neort generate A --seed 1 -m B < file | neort generate - > file && neort-export A -o B")
    with pytest.raises(AssertionError, match="has no --no-such-option"):
        check_usage(line)


def test_code_without_fences_is_found(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("Text:\n\n    1 / 0\n\n```text\n\n    a listing\n```\n", encoding="utf-8")
    assert indented_lines(file) == [3]


def test_texts_are_the_same_but_for_line_breaks_and_dots() -> None:
    assert same_text("a b\nc", "a\nb c\n")
    assert same_text("a\nb\nc\nd", "a\n...\nd\n")
    assert not same_text("a b c", "a b")
    assert not same_text("a.", "ab")
