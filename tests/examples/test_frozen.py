"""The frozen application: it writes neort's text where there is nothing but itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import neort
from example_files import EXAMPLES
from patience import PATIENCE

pytest.importorskip("PyInstaller", reason="PyInstaller is not installed")

TEXT = "It was a dark night and"


@pytest.fixture(scope="module")
def program(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed example; takes a minute."""
    folder = tmp_path_factory.mktemp("frozen")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "frozen" / "build.py", "--bundle", bundle_path, "--output", folder],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return folder / "story" / ("story.exe" if os.name == "nt" else "story")


def test_it_writes_neort_s_text_without_an_environment(program: Path, model: neort.Model, tmp_path: Path) -> None:
    written = subprocess.run(
        [program, TEXT, "24"],
        env={},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        timeout=PATIENCE,
    ).stdout
    assert written == f"{TEXT}{model.generate(TEXT, max_new_tokens=24, do_sample=False).text}\n"
    assert not list(tmp_path.iterdir())


def test_it_holds_one_model_and_no_torch(program: Path) -> None:
    names = [str(file.relative_to(program.parent)) for file in program.parent.rglob("*")]
    assert [name for name in names if name.endswith("weights.data")] == [
        os.path.join("_internal", "bundle", "weights.data")
    ]
    assert not [name for name in names if "torch" in name]
