"""Standard streams that are closed, full, gone or of another encoding; arguments that are no UTF-8."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neort import Model, PromptError, StorageError
from neort.cli.main import main
from neort.cli.streams import Output, ReaderGoneError, read_input, utf8_argument
from patience import PATIENCE
from releases import QUIET

NEORT = [sys.executable, *QUIET, "-m", "neort"]
SHORT = ["--max-new-tokens", "2", "--num-threads", "1"]
HI = ["generate", "hi", *SHORT]
FULL = "standard output cannot be written to (No space left on device)"
CLOSED = "standard output is closed; send it to a file"
PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
FULL_DEVICE = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def shell(redirected: str, *args: str, data: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run neort in a shell that redirects its streams."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *NEORT, *args],
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "", **environment},
    )


@POSIX_ONLY
@FULL_DEVICE
@pytest.mark.parametrize(
    ("args", "redirected", "status", "told"),
    [
        (["info"], ">&-", 1, CLOSED),
        (["info"], ">/dev/full", 1, FULL),
        (HI, ">/dev/full", 1, FULL),
        (["--help"], ">/dev/full", 1, FULL),
        (["generate", "-", *SHORT], "<&-", 1, "standard input is closed"),
        (["info"], "<&- >/dev/null", 0, ""),
        (["info"], "2>&- >/dev/null", 0, ""),
        (["info", "/missing"], "2>&-", 1, ""),
        (["info", "/missing"], "2>/dev/full", 1, ""),
        (["translate"], "2>/dev/full", 2, ""),
        (["info"], "<&- >&- 2>&-", 1, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_streams_that_cannot_be_used_end_in_one_sentence(
    args: list[str], redirected: str, status: int, told: str
) -> None:
    done = shell(redirected, *args)
    assert (done.returncode, done.stdout) == (status, b"")
    assert done.stderr.decode().count("\n") == bool(told)
    assert told in done.stderr.decode()


@POSIX_ONLY
@pytest.mark.parametrize(
    ("encoding", "flags"),
    [
        *((name, []) for name in ("ascii", "cp1252", "utf-8:strict", "utf-16")),
        ("ascii", ["--json"]),
        ("utf-16", ["--json"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "json" if value else "text",
)
def test_text_that_a_terminal_lacks_is_written_with_backslashes_and_json_is_json(
    encoding: str, flags: list[str], model: Model
) -> None:
    done = shell("", "generate", "café 日本", *flags, *SHORT, PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    assert (done.returncode, done.stderr) == (0, b"")
    out = done.stdout.decode(encoding.partition(":")[0])
    if flags:
        assert json.loads(out)["prompt"] == "café 日本"
        assert out.isascii()
    else:
        shown = (
            "café 日本"
            if encoding.startswith("utf")
            else "café 日本".encode(encoding, "backslashreplace").decode(encoding)
        )
        assert out.startswith(shown)


@POSIX_ONLY
@pytest.mark.parametrize(
    ("locale", "given"),
    [(PLAIN_C, "café".encode()), (PLAIN_C, b"caf\xe9"), ({"LC_ALL": "C.UTF-8"}, b"caf\xe9")],
    ids=["UTF-8 in C", "Latin-1 in C", "Latin-1 in UTF-8"],
)
@pytest.mark.parametrize("where", ["argument", "stdin"])
def test_a_prompt_is_what_its_bytes_are_in_utf8_or_an_error(
    given: bytes, locale: dict[str, str], where: str, model: Model
) -> None:
    prompt = os.fsdecode(given) if where == "argument" else "-"
    done = shell("", "generate", prompt, "--json", *SHORT, data=given, **locale)
    if given == b"caf\xe9":
        assert (done.returncode, done.stdout) == (1, b"")
        assert "no utf-8" in done.stderr.decode().lower()
        assert done.stderr.count(b"\n") == 1
    else:
        found = json.loads(done.stdout)
        assert found["prompt"] == "café"
        assert tuple(found["token_ids"]) == tuple(model.generate("café", max_new_tokens=2).token_ids)


def test_what_libraries_print_goes_to_standard_error() -> None:
    program = """
import ctypes, os, sys
from neort.cli import main
from neort.cli.commands import generate
load = generate.load
def noisy(*arguments, **options):
    print("a library's print")
    os.write(1, b"a write\\n")
    ctypes.CDLL(None).puts(b"a printf") if os.name == "posix" else None
    return load(*arguments, **options)
generate.load = noisy
sys.argv[1:] = ["generate", "hi", "--json", "--max-new-tokens", "2"]
sys.exit(main())
"""
    done = subprocess.run([sys.executable, *QUIET, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["prompt"] == "hi"
    assert "a library's print" in done.stderr
    assert "a write" in done.stderr
    assert os.name != "posix" or "a printf" in done.stderr


@POSIX_ONLY
def test_a_closed_standard_error_s_number_is_no_file_s() -> None:
    """Else what C libraries write there would end up in whatever is opened first."""
    program = "import sys; sys.argv[0] = 'neort'; import neort, os; print(os.open('/dev/null', os.O_RDONLY) > 2)"
    command = ["sh", "-c", '"$@" 2>&- <&-', "sh", sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_dash_given_twice_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["generate", "-", "The", "-"])
    assert "- is given more than once" in capsys.readouterr().err


def test_endless_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.StringIO):
        def read(self, size: int | None = -1, /) -> str:
            assert size is not None
            assert size > 0
            return "y" * size

    monkeypatch.setattr(sys, "stdin", Endless())
    with pytest.raises(PromptError, match="more than 16,777,216 characters"):
        read_input()


def test_input_that_fails_is_an_error_of_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.StringIO):
        def read(self, size: int | None = -1, /) -> str:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdin", Failing())
    with pytest.raises(PromptError, match="cannot be read \\(Input/output error\\)"):
        read_input()


@pytest.mark.parametrize(
    ("error", "expected"),
    [(BrokenPipeError(), ReaderGoneError), (OSError(28, "full"), StorageError)],
)
def test_an_output_tells_a_reader_that_has_gone_from_a_full_disk(error: OSError, expected: type[Exception]) -> None:
    class Failing(io.StringIO):
        def flush(self) -> None:
            raise error

    with pytest.raises(expected):
        Output(Failing(), last=False).write("text")


@pytest.mark.parametrize(
    ("value", "expected"),
    [({"a": "é"}, '{"a": "é"}'), ({"a": "\udce9"}, '{"a": "\\udce9"}'), ({"a": float("nan")}, '{"a": null}')],
)
def test_json_has_no_lone_surrogates_and_no_nan(value: Any, expected: str) -> None:
    stream = io.StringIO()
    Output(stream, last=False).json(value)
    assert stream.getvalue() == expected + "\n"


def test_an_argument_that_is_utf8_is_as_it_was() -> None:
    assert utf8_argument("日本", "the prompt") == "日本"


def test_streams_are_as_they_were_when_main_was_called_with_arguments(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr, sys.stdout.errors
    assert main(["info", "/missing"]) == 1
    assert (sys.stdout, sys.stderr, sys.stdout.errors) == before
    os.write(1, b"still there")
    assert capfd.readouterr().out == "still there"


@POSIX_ONLY
def test_a_terminal_shows_text_as_it_comes() -> None:
    import pty

    parent, child = pty.openpty()
    process = subprocess.Popen([*NEORT, *HI], stdin=child, stdout=child, stderr=child)
    os.close(child)
    shown = b""
    with open(parent, "rb", buffering=0) as terminal:
        while True:
            try:
                piece = terminal.read(1000)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
    assert process.wait(timeout=PATIENCE) == 0
    assert shown.startswith(b"hi")
    assert shown.endswith(b"\r\n")


@pytest.mark.parametrize(
    ("data", "text"), [("\ufeffHi", "Hi"), ("\ufeff\ufeffHi\n", "\ufeffHi\n"), ("Hi\ufeff", "Hi\ufeff")]
)
def test_a_byte_order_mark_before_a_prompt_is_no_part_of_it(
    data: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(data.encode()), encoding="latin-1")
    monkeypatch.setattr(sys, "stdin", stdin)
    assert read_input() == text
