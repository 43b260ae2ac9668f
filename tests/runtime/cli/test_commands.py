"""Commands that tell about a text, a bundle or a machine; help for every flag; shell completion."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from neort import MissingExtraError, Model
from neort.cli.commands import doctor
from neort.cli.commands.completion import script
from neort.cli.display import Progress, aligned, bytes_in_words, colours_of, count_in_words, visible
from neort.cli.main import main, make_parser
from neort.cli.streams import Output
from neort.diagnostics import Limits, limits, speed
from patience import PATIENCE
from releases import SATURATES

COMMANDS: dict[str, argparse.ArgumentParser] = make_parser().get_default("commands")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Model) -> Any:
    """Runs the command line on one loaded model; gives its exit status, its output and its error output."""
    for command in ("explain", "bench", "doctor"):
        monkeypatch.setattr(f"neort.cli.commands.{command}.load", lambda *_, **__: model)

    def run(*args: str) -> tuple[int, str, str]:
        status = main(list(args))
        return status, *capsys.readouterr()

    return run


# tokenize


def test_tokenize_shows_tokens_and_their_count(run: Any) -> None:
    status, out, err = run("tokenize", "Once upon\n日")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["id", "token"]
    assert '" upon"' in out
    assert r'"\n"' in out
    assert r'"\xe6"' in out
    assert lines[-1] == f"{len(lines) - 2} tokens of 11 characters, 13 bytes"


def test_tokens_as_json_go_back_to_their_text(run: Any, model: Model) -> None:
    text = "Ünïcödé 日本 \t<|endoftext|>"
    found = json.loads(run("tokenize", text, "--json")[1])
    assert found["ids"] == model.tokenizer.encode(text)
    assert (found["text"], found["count"], len(found["tokens"])) == (text, len(found["ids"]), len(found["ids"]))
    ids = [str(token_id) for token_id in found["ids"]]
    assert run("tokenize", "--ids", *ids) == (0, text + "\n", "")
    assert run("tokenize", "--ids", str(found["ids"])) == (0, text + "\n", "")


@pytest.mark.parametrize(("ids", "told"), [("x", "'x' is no token id"), ("-1", "'-1'"), ("99999", "no token 99999")])
def test_what_is_no_token_id_is_told(run: Any, ids: str, told: str) -> None:
    status, _, err = run("tokenize", "--ids", "--", ids)
    assert status == 1
    assert told in err


# info


def test_info_is_a_table_for_people(run: Any, bundle_path: Path) -> None:
    status, out, err = run("info", str(bundle_path))
    assert (status, err) == (0, "")
    for name in ("model", "parameters", "context", "format", "fp32 cache", "weights.data", "tokenizer", "options"):
        assert re.search(rf"^ *{re.escape(name)}  +\S", out, re.MULTILINE), name
    assert "3.6 million" in out
    assert "mean KL" in out


def test_info_of_a_bundle_without_verification_says_so(run: Any, bundle_copy: Path, edit_manifest: Any) -> None:
    edit_manifest(lambda manifest: manifest["files"].pop("verification.json"))
    assert "not verified at the export" in run("info", str(bundle_copy))[1]


# explain


def test_explain_is_a_table_where_nobody_sees_colours(run: Any) -> None:
    status, out, err = run("explain", "It was a dark night")
    lines = out.splitlines()
    assert (status, err, "\x1b" in out) == (0, "", False)
    assert lines[0].split() == ["probability", "rank", "token", "likeliest"]
    assert len(lines) == 2 + len(run("explain", "It was a dark night", "--json")[1].splitlines())
    assert "perplexity" in lines[-1]


def test_explain_colours_its_text_where_asked(run: Any) -> None:
    out = run("explain", "It was\na dark night", "--color", "always")[1]
    assert re.sub(r"\x1b\[[\d;]*m", "", out).startswith("It was\na dark night\n")
    assert out.count("\x1b[38;5;16;48;5;") >= 4


def test_explain_continues_a_text_and_marks_what_is_new(run: Any, model: Model) -> None:
    out = run("explain", "It was", "--generate", "--max-new-tokens", "3", "--json", "--top", "2")[1]
    tokens = [json.loads(line) for line in out.splitlines()]
    assert [token["token_id"] for token in tokens if token["generated"]] == list(
        model.generate("It was", max_new_tokens=3).token_ids
    )
    assert all(len(token["alternatives"]) == 2 for token in tokens[1:])
    assert all(token["rank"] == 1 for token in tokens if token["generated"])  # greedy


def test_explain_writes_a_page(run: Any, tmp_path: Path) -> None:
    status, out, _ = run("explain", "<b>It</b> was", "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (status, out.startswith(str(tmp_path / "page.html"))) == (0, True)
    assert page.startswith("<!doctype html>")
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--top", "0"], "--top is 0"),
        (["--max-new-tokens", "3"], "--max-new-tokens is an option of generation; give --generate"),
        (["--html", "page.html", "--json"], "not allowed with"),
        (["--generate", "--num-return-sequences", "2"], "unrecognized arguments"),
    ],
)
def test_explain_refuses_what_has_no_effect(args: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["explain", "It", *args])
    assert told in capsys.readouterr().err


def test_explain_refuses_an_empty_text(run: Any) -> None:
    status, _, err = run("explain", "")
    assert (status, "the text is empty" in err) == (1, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_usage_leaves_room_for_the_sentence_below_it(command: str) -> None:
    assert COMMANDS[command].format_usage().count("\n") <= 4


# bench and doctor


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks of a few tokens."""
    monkeypatch.setattr(speed, "LENGTHS", (8, 16))
    monkeypatch.setattr(speed, "BATCHES", (1, 2))
    monkeypatch.setattr(speed, "NEW_TOKENS", (3, 4))
    monkeypatch.setattr(doctor, "TOKENS", 4)
    for name, value in {"ARRAY_BYTES": 1 << 20, "BLOCK_COLUMNS": 64, "ROWS": 8, "ROUNDS": 1}.items():
        monkeypatch.setattr(limits, name, value)


@pytest.mark.usefixtures("short")
def test_bench_is_a_table_or_json(run: Any) -> None:
    status, out, err = run("bench", "--seconds", "0")
    assert (status, err) == (0, "")
    for name in ("load", "read a prompt of 16", "write 1 text", "write 2 texts at once"):
        assert re.search(rf"^{name} +\S+ +\S+ +\S+ +\d+$", out, re.MULTILINE), name
    found = json.loads(run("bench", "--seconds", "0", "--json")[1])
    assert {"load", "read a prompt of 8", "write 2 texts at once"} <= {each["name"] for each in found["figures"]}


@pytest.mark.usefixtures("short")
def test_doctor_has_findings_limits_and_what_to_expect(run: Any) -> None:
    status, out, err = run("doctor")
    assert (status, err) == (int(SATURATES), "")  # then inexact products are a problem
    assert re.search(r"^(ok|note) +threads +\d+ of \d+ CPUs", out, re.MULTILINE)
    assert re.search(r"^(ok|note) +bundle +neo-mini: [\d,]+ tokens/s measured, [\d,]+ predicted", out, re.MULTILINE)
    for part in ("limits: ", "format: ", "gpt-neo-1.3b", "int8-block"):
        assert part in out
    assert "tinystories" not in out


@pytest.mark.usefixtures("short")
def test_doctor_as_json_has_it_all(run: Any) -> None:
    found = json.loads(run("doctor", "--json")[1])
    assert {"facts", "findings", "limits", "format", "why", "expected", "bundle"} == set(found)
    assert found["bundle"]["measured"] > 0
    assert found["limits"]["read_bytes_per_second"] > 0


def test_doctor_without_measuring_is_findings_alone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "measured_limits", None)
    status, out, _ = run("doctor", "--no-measure")
    assert status == int(SATURATES)
    assert "limits" not in out


def test_a_bundle_that_does_not_load_is_a_problem(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "measured_limits", lambda *_, **__: Limits(50e9, 800e9, 200e9))
    status, out, _ = run("doctor", str(tmp_path))
    assert status == 1
    assert re.search(r"^problem +bundle +.*no manifest.json", out, re.MULTILINE)


# Help and completion


def test_every_argument_of_every_command_has_a_help_text() -> None:
    parsers = {"neort": make_parser(), **COMMANDS}
    silent = [
        f"{name} {'/'.join(action.option_strings) or action.dest}"
        for name, parser in parsers.items()
        for action in parser._actions
        if action.dest != "command" and not (action.help and action.help != argparse.SUPPRESS)
    ]
    assert silent == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_can_be_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: neort {name}" in capsys.readouterr().out


BASH = shutil.which("bash")


def completed(*words: str) -> list[str]:
    """What bash offers after these words, of which the last one is being written."""
    program = f"""
{script("bash", COMMANDS)}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
COMP_CWORD={len(words) - 1}
_neort
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        [BASH or "", "--norc", "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_a_completion_is_described_by_the_first_part_of_its_help() -> None:
    assert "-a verify -d 'check a bundle'\"'\"'s hashes and golden logits'" in script("fish", COMMANDS)


def test_help_names_flags_and_not_what_python_calls_them() -> None:
    options = [action for action in COMMANDS["generate"]._actions if action.option_strings]
    told = " ".join(action.help or "" for action in options)
    assert not {action.dest for action in options if "_" in action.dest} & set(re.findall(r"\w+", told))


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_bash_completes_commands_flags_values_and_files() -> None:
    assert completed("neort", "") == list(COMMANDS)
    assert completed("neort", "do") == ["doctor"]
    assert completed("neort", "generate", "--max-n") == ["--max-new-tokens"]
    assert completed("neort", "generate", "The", "--kv-cache", "") == ["fp32", "int8"]
    assert completed("neort", "completion", "") == ["bash", "zsh", "fish"]
    assert completed("neort", "info", "/usr/bi") == ["/usr/bin"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_its_shell_can_read(run: Any, shell: str) -> None:
    status, out, _ = run("completion", shell)
    assert (status, out) == (0, script(shell, COMMANDS))
    flags = {flag for parser in COMMANDS.values() for action in parser._actions for flag in action.option_strings}
    assert all(flag.lstrip("-") in out for flag in flags)
    if program := shutil.which(shell):
        done = subprocess.run([program, "-n"], input=out, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_extra_is_one_sentence(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MissingExtraError("this needs the extra [x]; install it with: pip install 'neort[x]'")

    monkeypatch.setattr("neort.cli.commands.explain.load", fail)
    assert run("explain", "It") == (1, "", "neort: this needs the extra [x]; install it with: pip install 'neort[x]'\n")


# Display


def test_tables_are_aligned_with_wide_characters_too() -> None:
    assert aligned([("日", "1"), ("abc", "20")], "lr") == ["日    1", "abc  20"]


@pytest.mark.parametrize(("size", "words"), [(12, "12 bytes"), (1500, "1.5 kB"), (5.4e6, "5.4 MB"), (2e9, "2.0 GB")])
def test_sizes_have_units(size: float, words: str) -> None:
    assert bytes_in_words(size) == words


def test_counts_and_texts_are_for_people() -> None:
    assert (count_in_words(1.3e9), count_in_words(999)) == ("1.3 billion", "999")
    assert visible('a "\n\x1b') == '"a "\\n\\x1b"'


class Terminal:
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("choice", "environment", "coloured"),
    [
        ("auto", {}, True),
        ("auto", {"NO_COLOR": "1"}, False),
        ("auto", {"TERM": "dumb"}, False),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {}, False),
    ],
)
def test_colours_follow_the_flag_and_the_environment(
    choice: str, environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    output = Output(Terminal(), last=False)  # type: ignore[arg-type]
    assert (colours_of(choice, output)("x", "0.3") != "x") is coloured


def test_progress_is_lines_outside_a_terminal_and_rare(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("neort.cli.display.progress.time.monotonic", lambda: now[0])
    with Progress("neort") as progress:
        for now[0] in (0.0, 9.0, 11.0, 12.0, 22.0):
            progress.update(now[0] / 44, f"at {now[0]:g}")
    assert capsys.readouterr().err == "neort: 25%, at 11, 0:33 left\nneort: 50%, at 22, 0:22 left\n"


def test_silent_progress_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("neort.cli.display.progress.time.monotonic", lambda: now[0])
    with Progress("neort", silent=True) as progress:
        now[0] = 60.0
        progress.update(0.5, "half")
    assert capsys.readouterr().err == ""


def test_the_time_that_is_left_is_reckoned_from_where_a_run_went_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("neort.cli.display.progress.time.monotonic", lambda: now[0])
    with Progress("neort") as progress:
        progress.update(0.6, "first")
        now[0] = 120.0
        progress.update(0.8, "second")
    assert capsys.readouterr().err == "neort: 80%, second, 0:20 left\n"


def test_progress_in_a_terminal_is_a_bar_that_goes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    now = [0.0]
    monkeypatch.setattr("neort.cli.display.progress.time.monotonic", lambda: now[0])
    with Progress("neort") as progress:
        now[0] = 5.0
        progress.update(0.5, "half")
    err = capsys.readouterr().err
    assert err.startswith("\r\x1b[Kneort [============            ] 50%, half")
    assert err.endswith("\r\x1b[K")
    assert "\n" not in err
