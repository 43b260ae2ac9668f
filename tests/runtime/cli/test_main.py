"""The command line: what it prints where, and its exit status. In this process but for signals and broken pipes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import neort
import neort_models
from neort import Model
from neort.cli.main import main
from neort.verification import Check
from patience import PATIENCE
from releases import KEEPS_INT8_CACHES, QUIET

SHORT = ["--max-new-tokens", "8"]

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and pipes")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line; gives its exit status, its output and its error output."""

    def run(*args: str) -> tuple[int, str, str]:
        status = main(list(args))
        out, err = capsys.readouterr()
        return status, out, err

    return run


def assert_one_sentence(err: str, *parts: str) -> None:
    assert err.startswith("neort: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for part in parts:
        assert part in err


# generate


@pytest.mark.parametrize("prompt", ["Once upon a time", "Ünïcödé 日本語 👩\u200d🔬"])
def test_generate_prints_the_prompt_and_its_continuation(run: Any, model: Model, prompt: str) -> None:
    status, out, err = run("generate", prompt, *SHORT)
    assert (status, err) == (0, "")
    assert out == prompt + model.generate(prompt, max_new_tokens=8).text + "\n"


def test_generate_writes_each_piece_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []

    class Flushed(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    monkeypatch.setattr(sys, "stdout", Flushed())
    assert main(["generate", "Once upon a time", *SHORT]) == 0
    assert flushed[0] == "Once upon a time"
    assert len(set(flushed)) >= 8


def test_json_prints_one_object_per_result(run: Any, model: Model) -> None:
    prompt = "Ünïcödé 日本語"
    status, out, err = run("generate", prompt, "--json", *SHORT)
    assert (status, err, out.count("\n")) == (0, "", 1)
    result = json.loads(out)
    expected = model.generate(prompt, max_new_tokens=8)
    assert set(result) == {"prompt", "text", "token_ids", "finish_reason", "stats"}
    assert (result["prompt"], result["text"]) == (prompt, expected.text)
    assert (result["token_ids"], result["finish_reason"]) == (list(expected.token_ids), "length")
    assert (result["stats"]["prompt_tokens"], result["stats"]["new_tokens"]) == (expected.stats.prompt_tokens, 8)
    assert result["stats"]["tokens_per_second"] > 0
    assert result["stats"]["prompt_tokens_per_second"] > 0


def test_json_prints_every_sequence_of_every_prompt(run: Any, model: Model) -> None:
    options: dict[str, Any] = {"do_sample": True, "seed": 3, "num_return_sequences": 2, "max_new_tokens": 8}
    status, out, _ = run(
        "generate", "The", "Once", "--json", "--do-sample", "--seed", "3", "--num-return-sequences", "2", *SHORT
    )
    results = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [result["prompt"] for result in results] == ["The", "The", "Once", "Once"]
    assert [result["text"] for result in results] == [
        completion.text for completion in model.generate(["The", "Once"], **options)
    ]


def test_json_has_the_log_probabilities_and_scores_that_were_asked_for(run: Any, model: Model) -> None:
    flags = ["--json", "--num-beams", "2", "--logprobs", "1", "--prompt-logprobs", "0", *SHORT]
    status, out, _ = run("generate", "The man", *flags)
    result = json.loads(out)
    expected = model.generate("The man", num_beams=2, logprobs=1, prompt_logprobs=0, max_new_tokens=8)
    assert (status, result["score"]) == (0, expected.score)
    assert [each["token_id"] for each in result["logprobs"]] == list(expected.token_ids)
    assert [each["logprob"] for each in result["logprobs"]] == [each.logprob for each in expected.logprobs or ()]
    first = result["logprobs"][0]["top"][0]
    assert first["token"] == model.tokenizer.decode([first["token_id"]])
    assert [each and each["token"] for each in result["prompt_logprobs"]] == [None, " man"]


def test_several_prompts_are_printed_one_after_the_other(run: Any, model: Model) -> None:
    status, out, err = run("generate", "The", "Once", *SHORT)
    texts = [prompt + model.generate(prompt, max_new_tokens=8).text for prompt in ("The", "Once")]
    assert (status, out, err) == (0, "".join(f"{text}\n\n" for text in texts), "")


def test_a_dash_reads_the_prompt_from_standard_input(run: Any, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Once upon\na time"))
    status, out, _ = run("generate", "-", *SHORT)
    assert status == 0
    assert out == "Once upon\na time" + model.generate("Once upon\na time", max_new_tokens=8).text + "\n"


def test_generate_takes_every_option(run: Any, model: Model) -> None:
    flags = ["--do-sample", "--temperature", "0.9", "--top-k", "40", "--top-p", "0.95", "--seed", "5"]
    flags += ["--repetition-penalty", "1.2", "--min-new-tokens", "2", "--min-length", "3", "--overflow", "stop"]
    flags += ["--stop", "never\0", "--stop", "ever\0", "--num-threads", "1"]
    status, out, _ = run("generate", "The", *flags, *SHORT)
    expected = model.generate(
        "The",
        do_sample=True,
        temperature=0.9,
        top_k=40,
        top_p=0.95,
        seed=5,
        repetition_penalty=1.2,
        max_new_tokens=8,
    )
    assert (status, out) == (0, f"The{expected.text}\n")


def test_guidance_leads_away_from_a_negative_prompt(run: Any, model: Model) -> None:
    flags = ["--guidance-scale", "2", "--negative-prompt", "The king", *SHORT]
    expected = model.generate("The man", guidance_scale=2.0, negative_prompt="The king", max_new_tokens=8)
    assert expected.text != model.generate("The man", guidance_scale=2.0, max_new_tokens=8).text
    assert run("generate", "The man", *flags)[1] == f"The man{expected.text}\n"
    assert json.loads(run("generate", "The man", "--json", *flags)[1])["text"] == expected.text


def test_stop_strings_end_the_text(run: Any, model: Model) -> None:
    text = model.generate("The", max_new_tokens=8).text
    stop = text[3:6]
    assert run("generate", "The", "--stop", stop, *SHORT)[:2] == (0, f"The{text[: text.index(stop)]}\n")


def test_stop_strings_know_escape_sequences(run: Any, model: Model) -> None:
    text = model.generate("Once upon a time", max_new_tokens=40).text
    status, out, _ = run("generate", "Once upon a time", "--max-new-tokens", "40", "--stop", f"\\u{ord(text[9]):04x}")
    assert (status, out) == (0, f"Once upon a time{text[: text.index(text[9])]}\n")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--max-tokens", "5"], "use --max-new-tokens"),
        (["--stop-strings", "x"], "; use --stop"),
        (["--max_new_tokens=5"], "; use --max-new-tokens"),
        (["--n", "5"], "--num-return-sequences"),
        (["-t", "5"], "use --num-threads"),
        (["--threads", "5"], "; use --num-threads"),
        (["--num-beam-groups", "5"], "leave it out, --num-beams searches with plain beams"),
        (["--repeat-penalty", "1.1"], "use --repetition-penalty"),
        (["--mirostat", "2"], "in Python, "),
        (["--device", "cpu"], "; neort runs on the CPU"),
        (["--truncation"], "--overflow truncate_left"),
        (["--file", "x"], "; use --input"),
        (["--batch-size", "4"], "; use --max-batch-size"),
        (["--top-kk", "5"], "did you mean --top-k?"),
        (["--top-logprobs", "5"], "; use --logprobs, the number"),
        (["--xyzzy"], "neort generate --help"),
    ],
)
def test_a_flag_of_another_program_is_told_what_to_use(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["generate", "hi", *flags])
    assert f"unrecognized arguments: {flags[0]}" in (err := capsys.readouterr().err)
    assert told in err


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--served-model-name", "NAME=BUNDLE"),
        ("--parallel", "use --max-batch-size"),
        ("--api-key", "use --api-key-file"),
        ("--slot-save-path", "use --prefix-folder"),
        ("--max-token", "did you mean --max-tokens?"),
        ("--bogus", "neort serve --help"),
    ],
)
def test_a_flag_of_another_server_is_told_what_to_use(flag: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", flag, "x"])
    assert told in capsys.readouterr().err


def test_a_flag_that_this_command_lacks_is_not_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["tokenize", "hi", "--file", "x"])
    assert "use --input" not in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["-m", "--model", "--bundle"])
def test_every_command_names_its_bundle_by_the_same_flags(
    run: Any, bundle_copy: Path, model: Model, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = run("generate", "The", flag, str(bundle_copy), *SHORT)
    assert (status, out) == (0, "The" + model.generate("The", max_new_tokens=8).text + "\n")
    assert run("info", flag, str(bundle_copy)) == run("info", str(bundle_copy))
    checked: list[str] = []

    def check(path: str, **_: object) -> list[Check]:
        checked.append(path)
        return []

    monkeypatch.setattr("neort.cli.commands.verify.check", check)
    assert run("verify", flag, str(bundle_copy)) == run("verify", str(bundle_copy))
    assert checked == [str(bundle_copy)] * 2


@pytest.mark.parametrize("flag", ["--logprobs", "--num-return-sequences", "--negative-prompt"])
def test_a_flag_of_generate_is_told_where_it_is(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["explain", "hi", flag, "2"])
    assert "; neort generate has it" in capsys.readouterr().err


def test_python_m_neort_is_neort() -> None:
    done = subprocess.run([sys.executable, "-m", "neort", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"neort {neort.__version__}\n"


@pytest.mark.parametrize("error", [TypeError, ValueError, OSError])
def test_an_error_that_neort_does_not_raise_on_purpose_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("a fault of neort's own")

    monkeypatch.setattr("neort.cli.commands.generate.load", fail)
    with pytest.raises(error, match="own"):
        main(["generate", "The"])


# Errors


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["generate", "The", "--model", "/no/such/bundle"], ["/no/such/bundle", "not a folder", "neort-export"]),
        (["info", "/no/such/bundle"], ["/no/such/bundle", "not a folder"]),
        (["verify", "/no/such/bundle"], ["/no/such/bundle", "not a folder"]),
        (["generate", "The", "--temperature", "0.7"], ["temperature=0.7", "do_sample=False", "set do_sample=True"]),
        (["generate", "The", "--num-return-sequences", "2"], ["num_return_sequences=2 needs do_sample=True"]),
        (["generate", "The", "--max-new-tokens", "0"], ["max_new_tokens=0 must be at least 1"]),
        (["generate", "The", "--max-new-tokens", "513"], ["513 positions", "the model has 512", "truncate_left"]),
        (["generate", "The", "--num-threads", "0"], ["num_threads is 0; it must be at least 1"]),
        (["generate", ""], ["the prompt is empty"]),
        (["generate", "The", "--model", ""], ["path", "is empty"]),
        (["verify", ""], ["path", "is empty"]),
        (["info", "--model", ""], ["path", "is empty"]),
        (["generate", "The", "--stop", ""], ["stop_strings", "empty"]),
    ],
)
def test_errors_are_one_sentence_and_status_1(run: Any, args: list[str], parts: list[str]) -> None:
    status, out, err = run(*args)
    assert (status, out) == (1, "")
    assert_one_sentence(err, *parts)


def test_a_missing_bundled_model_is_one_sentence(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEORT_MODEL")
    monkeypatch.setattr(neort_models, "_BUNDLED", tmp_path)
    status, out, err = run("info")
    assert (status, out) == (1, "")
    assert_one_sentence(err, "no bundled model")


@pytest.mark.parametrize(
    "args", [[], ["translate"], ["generate"], ["generate", "The", "--top-k", "many"], ["generate", "The", "--max", "3"]]
)
def test_wrong_usage_exits_with_status_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert "usage: neort" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--help"], ["generate", "--help"], ["info", "--help"], ["verify", "--help"]])
def test_help_exits_with_status_0(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 0
    assert "usage: neort" in capsys.readouterr().out


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"neort {neort.__version__}\n"


# info and verify


def test_info_as_json_is_the_manifest_and_figures_without_golden_logits(run: Any, model: Model) -> None:
    status, out, err = run("info", "--json")
    shown = json.loads(out)
    figures = shown.pop("verification")
    assert (status, err) == (0, "")
    assert shown == model.bundle.manifest
    assert "against_torch" in figures
    assert "golden" not in figures


@pytest.mark.usefixtures("exact_products")
def test_verify_prints_a_line_per_check(run: Any, bundle_copy: Path) -> None:
    status, out, err = run("verify", str(bundle_copy))
    first, *lines = out.splitlines()
    assert (status, err) == (0, "")
    assert first == f"{bundle_copy}: all files match the manifest"
    checked = [line for line in lines if not line.startswith("skip ")]
    assert all(line.startswith("ok ") and "limit" in line for line in checked)
    assert sum("int8 cache: " in line for line in checked) in ((3, 4) if KEEPS_INT8_CACHES else (0,))
    assert sum("int8 cache: " not in line for line in checked) == 4


def test_verify_of_a_damaged_bundle_exits_with_status_1(run: Any, bundle_copy: Path) -> None:
    weights = bytearray((bundle_copy / "weights.data").read_bytes())
    weights[1000] ^= 1
    (bundle_copy / "weights.data").write_bytes(weights)
    status, out, err = run("verify", str(bundle_copy))
    assert (status, out) == (1, "")
    assert_one_sentence(err, "weights.data", "sha256", "copy or export the bundle again")


@pytest.mark.parametrize("damage", ["zeros", "nan"])
def test_verify_of_a_bundle_that_computes_something_else_exits_with_status_1(
    run: Any, bundle_copy: Path, replace_file: Any, damage: str
) -> None:
    weights = (bundle_copy / "weights.data").read_bytes()
    half = len(weights) // 2
    changed = weights[:half] + bytes(20_000) + weights[half + 20_000 :] if damage == "zeros" else b"\xff" * len(weights)
    replace_file("weights.data", changed)
    status, out, err = run("verify", str(bundle_copy))
    assert (status, err) == (1, "")
    assert "FAILED golden logits" in out


# Signals and pipes

PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored where the tests run in the background
from neort.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def start(*args: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        [sys.executable, *QUIET, "-c", PROGRAM, *args], stdout=stdout, stderr=subprocess.PIPE, env=environment
    )


@posix_only
def test_ctrl_c_exits_with_status_130_and_no_traceback() -> None:
    process = start("generate", "Once upon a time", "--max-new-tokens", "1000000", "--overflow", "truncate_left")
    assert process.stdout is not None
    assert process.stdout.read(20)  # it is generating
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, b"\n")


@posix_only
def test_a_reader_that_has_seen_enough_ends_generation_without_a_traceback() -> None:
    process = start("generate", "Once upon a time", "--max-new-tokens", "1000000", "--overflow", "truncate_left")
    assert process.stdout is not None
    assert process.stdout.read(5) == b"Once "
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=PATIENCE) == 141


@posix_only
@pytest.mark.parametrize("command", [["info"], ["verify"], ["generate", "The", "--json", *SHORT]], ids=lambda c: c[0])
def test_a_reader_that_is_gone_gives_no_traceback(command: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = start(*command, stdout=write_end)
    os.close(write_end)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (141, b"")


def test_info_of_a_damaged_verification_json_is_one_sentence(run: Any, bundle_copy: Path, replace_file: Any) -> None:
    content = json.loads((bundle_copy / "verification.json").read_text(encoding="utf-8"))
    content["golden"]["positions"] = ["x" * 10_000]
    replace_file("verification.json", json.dumps(content).encode())
    for command in ("info", "verify"):
        status, out, err = run(command, str(bundle_copy))
        assert (status, out) == (1, "")
        assert_one_sentence(err, "verification.json", "golden.positions", "copy or export the bundle again")
