"""Results files: whole or as before, and kept only where they are of the same machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harness import results


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path


def test_results_come_back_without_their_machine_card() -> None:
    results.write_results("question", {"answer": 42})
    assert results.earlier_results("question") == {"answer": 42}


def test_the_machine_card_comes_first(folder: Path) -> None:
    results.write_results("question", {"answer": 42})
    assert list(json.loads((folder / "question.json").read_text())) == ["machine", "answer"]


def test_what_was_measured_on_another_machine_is_not_kept(folder: Path) -> None:
    results.write_results("question", {"answer": 42})
    file = folder / "question.json"
    other = json.loads(file.read_text())
    other["machine"]["cpu"] = "Another CPU"
    file.write_text(json.dumps(other))
    assert results.earlier_results("question") is None


def test_a_newer_library_does_not_make_another_machine(folder: Path) -> None:
    results.write_results("question", {"answer": 42})
    file = folder / "question.json"
    older = json.loads(file.read_text())
    older["machine"]["libraries"]["numpy"] = "1.0"
    file.write_text(json.dumps(older))
    assert results.earlier_results("question") == {"answer": 42}


def test_results_that_cannot_be_written_leave_the_earlier_ones(folder: Path) -> None:
    results.write_results("question", {"answer": 42})
    with pytest.raises(TypeError):
        results.write_results("question", {"answer": object()})
    assert results.earlier_results("question") == {"answer": 42}
    assert [file.name for file in folder.iterdir()] == ["question.json"]
