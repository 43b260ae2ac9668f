"""The public types, as mypy reads them in a user's program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from folders import ROOT

api = pytest.importorskip("mypy.api", reason="mypy is not installed")

HERE = Path(__file__).parent


def faults(file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[tuple[int, str]]:
    """Line and error code of what ``mypy --strict`` finds in a file, without the project's own settings."""
    monkeypatch.setenv("MYPYPATH", str(ROOT / "runtime"))
    options = ["--strict", "--config-file=", f"--cache-dir={tmp_path}", "--follow-imports=silent"]
    out, err, _ = api.run([*options, str(HERE / file)])
    assert err == ""
    return {(int(line), code) for line, code in re.findall(r":(\d+): error: .*\[([a-z-]+)\]", out)}


def test_a_users_program_type_checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert faults("user.py", monkeypatch, tmp_path) == set()


def test_a_users_mistakes_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = enumerate((HERE / "mistakes.py").read_text(encoding="utf-8").splitlines(), start=1)
    expected = {(number, line.rpartition("expected: ")[2]) for number, line in lines if "# expected: " in line}
    assert len(expected) == 12
    assert faults("mistakes.py", monkeypatch, tmp_path) == expected
