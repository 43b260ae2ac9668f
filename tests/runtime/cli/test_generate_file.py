"""``neort generate --input``: results, resumption after any end, and what is refused by name."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from neort import Model
from neort.batches import store
from neort.cli.main import main
from patience import PATIENCE
from releases import QUIET

SAMPLED = ["--do-sample", "--seed", "5", "--max-new-tokens", "4"]
OPTIONS: dict[str, Any] = {"do_sample": True, "max_new_tokens": 4}


@pytest.fixture(autouse=True)
def one_model(monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    """Every run of a test has the same model, which is loaded once."""
    monkeypatch.setattr("neort.cli.commands.generate.load", lambda *_, **__: model)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"id": i, "prompt": f"Chapter {i}"}) + "\n" for i in range(8)), encoding="utf-8")
    return file


def results(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def run(source: Path, *flags: str) -> int:
    return main(["generate", "--input", str(source), *SAMPLED, *flags])


def test_results_keep_the_records_and_have_their_own_seeds(source: Path, tmp_path: Path, model: Model) -> None:
    assert run(source, "--output", str(tmp_path / "out")) == 0
    found = results(tmp_path / "out")
    assert [(each["id"], each["prompt"], each["index"]) for each in found] == [(i, f"Chapter {i}", i) for i in range(8)]
    for i in (0, 5):
        alone = model.generate(f"Chapter {i}", seed=5 + i, **OPTIONS)
        assert (found[i]["completion"], found[i]["finish_reason"]) == (alone.text, "length")
        assert (found[i]["prompt_tokens"], found[i]["new_tokens"]) == (alone.stats.prompt_tokens, 4)


def test_without_an_output_file_results_go_to_standard_output(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, "--output", str(tmp_path / "out")) == 0
    assert run(source, "--max-batch-size", "1") == 0
    assert capsys.readouterr().out == (tmp_path / "out").read_text(encoding="utf-8")


def test_several_sequences_are_lists_in_one_result(source: Path, tmp_path: Path, model: Model) -> None:
    assert run(source, "--output", str(tmp_path / "out"), "--num-return-sequences", "2") == 0
    texts = [each.text for each in model.generate("Chapter 1", seed=6, num_return_sequences=2, **OPTIONS)]
    assert results(tmp_path / "out")[1]["completion"] == texts
    assert results(tmp_path / "out")[1]["new_tokens"] == [4, 4]


def test_results_have_the_log_probabilities_and_scores_that_were_asked_for(
    source: Path, tmp_path: Path, model: Model
) -> None:
    beams = ["--num-beams", "2", "--num-return-sequences", "2", "--logprobs", "0", "--prompt-logprobs", "0"]
    flags = ["--input", str(source), "--output", str(tmp_path / "out"), "--max-new-tokens", "3"]
    assert main(["generate", *flags, *beams]) == 0
    found = results(tmp_path / "out")[1]
    expected = model.generate("Chapter 1", num_beams=2, num_return_sequences=2, logprobs=0, max_new_tokens=3)
    assert found["score"] == [each.score for each in expected]
    assert [[each["token_id"] for each in row] for row in found["logprobs"]] == [[*each.token_ids] for each in expected]
    assert found["prompt_logprobs"][0] is None


def test_all_records_are_led_away_from_the_negative_prompt(source: Path, tmp_path: Path, model: Model) -> None:
    flags = ["--input", str(source), "--output", str(tmp_path / "out"), "--max-new-tokens", "4"]
    assert main(["generate", *flags, "--guidance-scale", "2", "--negative-prompt", "The king"]) == 0
    expected = model.generate("Chapter 1", guidance_scale=2.0, negative_prompt="The king", max_new_tokens=4)
    assert results(tmp_path / "out")[1]["completion"] == expected.text
    assert main(["generate", *flags, "--guidance-scale", "2"]) == 1


def test_a_bad_record_is_an_error_in_the_output_and_in_the_status(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ["no json", json.dumps({"prompt": ""}), json.dumps({"prompt": "The " * 600, "id": 9})]
    bad += [json.dumps({"prompt": "The", "completion": "mine"}), json.dumps({"prompt": [10**9]})]
    source.write_text("\n".join([*bad, json.dumps({"prompt": "The", "error": "of an earlier run"})]), encoding="utf-8")
    assert run(source, "--output", str(tmp_path / "out")) == 1
    found = results(tmp_path / "out")
    for each, told in zip(found, ("no JSON", "empty", "positions", "--output-key", "vocabulary"), strict=False):
        assert told in each["error"]
    assert (found[2]["id"], found[3]["completion"]) == (9, "mine")
    assert "error" not in found[5]
    assert "5 of 6 results" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["lines", "text"])
def test_other_files_are_prompts_a_line_or_as_a_whole(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"The\nOnce\n")
    assert run(tmp_path / "a.txt", "--output", str(tmp_path / "out"), "--input-format", kind) == 0
    prompts = [each["prompt"] for each in results(tmp_path / "out")]
    assert prompts == (["The", "Once"] if kind == "lines" else ["The\nOnce\n"])


def test_a_text_file_without_an_output_is_a_prompt(
    tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_bytes(b"The\nOnce")
    assert run(tmp_path / "a.txt") == 0
    assert capsys.readouterr().out == "The\nOnce" + model.generate("The\nOnce", seed=5, **OPTIONS).text + "\n"


def test_prompts_come_from_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The\nOnce\n")))
    assert run(Path("-"), "--output", str(tmp_path / "out"), "--input-format", "lines") == 0
    assert len(results(tmp_path / "out")) == 2


# Resumption


def interrupted(monkeypatch: pytest.MonkeyPatch, error: BaseException, after: int) -> None:
    """Let the write of a line, after so many whole ones, end in the middle with an error."""
    written = []

    def write(stream: BinaryIO, line: bytes) -> None:
        written.append(line)
        stream.write(line[:9] if len(written) > after else line)
        if len(written) > after:
            raise error

    monkeypatch.setattr(store, "_write_all", write)


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted; 3 results"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
    ],
)
def test_an_interrupted_run_leaves_whole_lines_and_the_next_one_goes_on(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    told: str,
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    assert run(source, "--output", str(whole)) == 0
    with monkeypatch.context() as patched:
        interrupted(patched, error, 3)
        assert run(source, "--output", str(out)) == status
    assert told in (err := capsys.readouterr().err)
    assert "the same command" in err
    assert out.read_bytes() == b"".join(whole.read_bytes().splitlines(keepends=True)[:3])
    assert run(source, "--output", str(out)) == 0
    assert "3 results are in" in capsys.readouterr().err
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "out",
        "out.run.json",
        "prompts.jsonl",
        "whole",
        "whole.run.json",
    ]


KILLED = """
import os, signal, sys
from neort.batches import store
from neort.cli.main import main
written = []
def write(stream, line):
    written.append(line)
    stream.write(line[:9] if len(written) > 3 else line)
    if len(written) > 3:
        os.kill(os.getpid(), signal.SIGKILL)
store._write_all = write
main(sys.argv[1:])
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_run_is_continued_without_a_record_twice_or_lost(source: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = ["generate", "--input", str(source), "--output", str(out), *SAMPLED]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *QUIET, "-c", KILLED, *command], env=environment, timeout=PATIENCE, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(out.read_bytes().splitlines()) == 4  # of which the last one is cut short
    assert main(command) == 0
    assert run(source, "--output", str(whole)) == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_finished_run_has_nothing_left_to_do(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(source, "--output", str(tmp_path / "out")) == 0
    before = (tmp_path / "out").read_bytes()
    monkeypatch.setattr(store, "_write_all", None)  # nothing may be written
    assert run(source, "--output", str(tmp_path / "out")) == 0
    assert (tmp_path / "out").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--max-new-tokens", "5"], "max_new_tokens=4, and this command has 5"),
        (["--seed", "6"], "seed=5, and this command has 6"),
        (["--input-format", "lines"], "input_format='jsonl', and this command has 'lines'"),
        (["--output-key", "text"], "output_key='completion', and this command has 'text'"),
    ],
)
def test_other_options_than_those_of_the_results_are_refused_by_name(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    assert run(source, "--output", str(tmp_path / "out")) == 0
    before = (tmp_path / "out").read_bytes()
    assert run(source, "--output", str(tmp_path / "out"), *flags) == 1
    assert told in capsys.readouterr().err
    assert (tmp_path / "out").read_bytes() == before
    assert run(source, "--output", str(tmp_path / "out"), *flags, "--overwrite") == 0
    assert (tmp_path / "out").read_bytes() != before


def test_another_input_than_that_of_the_results_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(source, "--output", str(out)) == 0
    lines = source.read_text(encoding="utf-8").splitlines()
    source.write_text("\n".join(lines[:4]), encoding="utf-8")
    assert run(source, "--output", str(out)) == 1
    assert "more results than" in capsys.readouterr().err
    source.write_text("\n".join([*lines[:2], lines[3], *lines[3:]]), encoding="utf-8")
    assert run(source, "--output", str(out)) == 1
    assert "record 2 of" in capsys.readouterr().err


def test_a_file_that_is_no_run_s_is_never_touched(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("precious", encoding="utf-8")
    assert run(source, "--output", str(tmp_path / "out")) == 1
    assert run(source, "--output", str(source)) == 1
    err = capsys.readouterr().err
    assert "no out.run.json beside it" in err
    assert "are both" in err
    assert (tmp_path / "out").read_text(encoding="utf-8") == "precious"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_device_or_a_pipe_is_refused_and_stays(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "out")
    for path in (tmp_path / "out", tmp_path):
        assert run(source, "--output", str(path), "--overwrite") == 1
        assert "no regular file" in capsys.readouterr().err
    assert (tmp_path / "out").exists()


def test_a_link_stays_and_what_it_points_to_has_the_results(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    assert run(source, "--output", str(tmp_path / "link")) == 0
    assert run(source, "--output", str(tmp_path / "link"), "--overwrite") == 0
    assert (tmp_path / "link").is_symlink()
    assert len(results(tmp_path / "out")) == 8


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--input", "x", "The"], "one of the two"),
        (["The", "--output", "x"], "--output is for"),
        ([], "there is no prompt"),
        (["--input", "x", "--output-key", "index"], "--output-key index"),
        (["--input", "x", "--output-key", "logprobs"], "--output-key logprobs"),
        (["The", "--logprobs", "2"], "--logprobs is not shown"),
        (["--input", "x.txt", "--prompt-logprobs", "2"], "--prompt-logprobs is not shown"),
        (["The", "--overwrite"], "give --output"),
        (["The", "--input-format", "lines"], "--input-format is for"),
    ],
)
def test_contradictory_arguments_are_wrong_usage(
    args: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["generate", *args])
    assert told in capsys.readouterr().err


def test_an_input_that_cannot_be_read_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none.jsonl") == 1
    assert run(tmp_path, "--input-format", "lines") == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 2
    assert "none.jsonl cannot be read" in err
