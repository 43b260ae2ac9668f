"""``neort generate --input FILE --workers N``: the file of one process, whatever ends one of several."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from neort import Model
from neort.batches import store
from neort.cli.main import main
from patience import PATIENCE
from releases import QUIET

OPTIONS = ["--do-sample", "--seed", "5", "--max-new-tokens", "4", "--max-batch-size", "2"]
COUNT = 60


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"id": i, "prompt": f"Chapter {i}" if i % 7 else ""}) for i in range(COUNT)]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def run(source: Path, out: Path, *flags: str) -> int:
    return main(["generate", "--input", str(source), "--output", str(out), *OPTIONS, *flags])


@pytest.fixture
def whole(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Model) -> bytes:
    """What one process writes."""
    with monkeypatch.context() as patched:
        patched.setattr("neort.cli.commands.generate.load", lambda *_, **__: model)
        assert run(source, tmp_path / "whole") == 1  # some prompts are empty
    return (tmp_path / "whole").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_the_file_is_that_of_one_process_though_a_worker_is_killed_in_the_middle(
    source: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, written = tmp_path / "out", []
    write_all = store._write_all

    def write(stream: BinaryIO, line: bytes) -> None:
        write_all(stream, line)
        written.append(line)
        if len(written) == 3:
            victim = multiprocessing.active_children()[0].pid
            assert victim is not None
            os.kill(victim, signal.SIGKILL)

    monkeypatch.setattr(store, "_write_all", write)
    assert run(source, out, "--workers", "2") == 1
    assert out.read_bytes() == whole
    err = capsys.readouterr().err
    assert "neort: 2 workers of " in err
    assert err.count("was ended by SIGKILL") == 1
    assert f"of {COUNT} results in {out} are errors" in err
    assert not multiprocessing.active_children()


ENDED = """
import os, signal, sys
from neort.batches import store
from neort.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
written = []
def write(stream, line):
    written.append(line)
    stream.write(line[:9] if len(written) > 3 else line)
    if len(written) > 3:
        if sys.argv[1] == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        os.killpg(0, signal.SIGINT)
        signal.pause()
store._write_all = write
if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_run_that_ends_takes_its_workers_along_and_can_be_continued(
    source: Path, tmp_path: Path, whole: bytes, number: signal.Signals, status: int
) -> None:
    """Ctrl-C goes to all processes of a terminal. Standard error ends once nobody holds it any more."""
    out = tmp_path / "out"
    command = ["generate", "--input", str(source), "--output", str(out), *OPTIONS]
    done = subprocess.run(
        [sys.executable, *QUIET, "-c", ENDED, number.name, *command, "--workers", "2"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert ("interrupted; 3 results" in done.stderr) == (number == signal.SIGINT)
    assert len(out.read_bytes().splitlines()) == (4 if number == signal.SIGKILL else 3)
    assert run(source, out) == 1
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["The", "--workers", "2"], "--workers is for a file of many prompts"),
        (["--input", "x.txt", "--workers", "2"], "--workers is for a file of many prompts"),
        (["--input", "x.jsonl", "--workers", "0"], "'0' is no number of processes"),
        (["--input", "x.jsonl", "--workers", "many"], "'many' is no number of processes"),
    ],
)
def test_workers_are_for_files_and_are_counted(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["generate", *arguments])
    assert told in capsys.readouterr().err


def test_more_workers_than_the_machine_takes_are_one_sentence(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, tmp_path / "out", "--workers", "100000") == 1
    assert "neort: workers is 100000; it must be at least 1, and " in capsys.readouterr().err
