"""Signals and unforeseen errors: the exit status, what is said, and that nothing half-written stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neort.cli import ending
from neort.cli.ending import run_command
from neort.cli.main import main
from neort.cli.streams import Output
from patience import PATIENCE
from releases import QUIET

POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
RESET = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
"""
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143} | ({signal.SIGHUP: 129} if os.name == "posix" else {})
ENDLESS = ["generate", "The", "--max-new-tokens", "1000000", "--overflow", "truncate_left"]


def start(program: str, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *QUIET, "-c", RESET + program, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@POSIX_ONLY
@pytest.mark.parametrize("number", STATUS)
def test_a_signal_ends_generation_with_its_status_and_no_traceback(number: signal.Signals) -> None:
    with start("from neort.cli import main; import sys; sys.exit(main())", *ENDLESS) as process:
        assert process.stdout is not None
        assert process.stdout.read(10)  # it is generating
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    told = b"\n" if number == signal.SIGINT else f"neort: ended by {number.name}\n".encode()
    assert (process.returncode, err) == (STATUS[number], told)


WRITING = """
import sys
from pathlib import Path
from neort.cli.ending import run_command
from neort.files import partial_folder
def command(output):
    with partial_folder(Path(sys.argv[1])) as folder:
        (folder / "half").touch()
        output.line("ready")
        sys.stdin.read()
sys.exit(run_command("neort", command, last=True, left=lambda: "nothing was written"))
"""


@POSIX_ONLY
@pytest.mark.parametrize("number", STATUS)
def test_a_signal_leaves_nothing_half_written(number: signal.Signals, tmp_path: Path) -> None:
    with start(WRITING, str(tmp_path / "target")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(list(tmp_path.iterdir())) == 2
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == STATUS[number]
    assert err.endswith(b"; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


@POSIX_ONLY
@pytest.mark.parametrize("second", STATUS)
def test_a_second_signal_ends_at_once(second: signal.Signals) -> None:
    program = """
import sys
from neort.cli.ending import run_command
def command(output):
    try:
        output.line("ready")
        sys.stdin.read()
    finally:
        output.line("cleaning up")
        while True:
            pass
run_command("neort", command, last=True)
"""
    with start(program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == b"cleaning up\n"
        process.send_signal(second)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (-second, b"")  # which shells call 128 + its number


@POSIX_ONLY
def test_what_is_ignored_stays_ignored() -> None:
    """As nohup has it, and shells for what they start in the background."""
    program = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from neort.cli.ending import run_command
sys.exit(run_command("neort", lambda output: os.kill(os.getpid(), signal.SIGHUP) or 7, last=True))
"""
    with start(program) as process:
        assert (process.communicate(timeout=PATIENCE), process.returncode) == ((b"", b""), 7)


# While it is imported

IMPORTED = {
    "python -m": "import runpy; sys.argv[0] = '-m'; sys.orig_argv = ['python', '-m', '{module}', '--version']; {run}",
    "script": "sys.argv[0] = '/usr/bin/{script}'; from {module}.cli import main; sys.exit(main())",
}
INTERRUPTING = """
import os, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "{library}":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv[1:] = ["--version"]
"""


@POSIX_ONLY
@pytest.mark.parametrize("library", ["numpy", "onnxruntime", "tiktoken"])
@pytest.mark.parametrize("module", ["neort", "neort_export"])
@pytest.mark.parametrize("how", IMPORTED)
def test_ctrl_c_while_libraries_are_imported_ends_with_130_and_no_traceback(
    library: str, module: str, how: str
) -> None:
    run = f"runpy.run_module('{module}', run_name='__main__', alter_sys=False)"
    program = INTERRUPTING.format(library=library) + IMPORTED[how].format(
        module=module, script=module.replace("_", "-"), run=run
    )
    with start(program) as process:
        assert (process.communicate(timeout=PATIENCE), process.returncode) == ((b"", b""), 130)


@POSIX_ONLY
def test_ctrl_c_while_a_program_imports_neort_is_the_program_s() -> None:
    program = INTERRUPTING.format(library="tiktoken") + (
        "try:\n    import neort\nexcept KeyboardInterrupt:\n    print(signal.getsignal(signal.SIGINT).__name__)"
    )
    with start(program) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (out, err, process.returncode) == (b"default_int_handler\n", b"", 0)


@POSIX_ONLY
def test_importing_the_command_line_leaves_signals_alone() -> None:
    program = """
import neort.cli
print(signal.getsignal(signal.SIGINT).__name__, signal.getsignal(signal.SIGTERM).name)
"""
    with start(program) as process:
        assert process.communicate(timeout=PATIENCE)[0] == b"default_int_handler SIG_DFL\n"


# In this process


def test_handlers_are_as_they_were_when_main_was_called_with_arguments() -> None:
    before = {name: signal.getsignal(getattr(signal, name)) for name in ending.SIGNALS if hasattr(signal, name)}
    assert main(["info", "/missing"]) == 1
    assert before == {name: signal.getsignal(getattr(signal, name)) for name in before}


def test_no_memory_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def command(_: Output) -> int:
        raise MemoryError("Unable to allocate 3 TiB")

    assert run_command("neort", command, last=False) == 1
    assert capsys.readouterr().err == (
        "neort: the system gives no more memory (Unable to allocate 3 TiB); end other programs, or do less\n"
    )


@POSIX_ONLY
def test_an_error_that_a_library_makes_of_an_interruption_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    def command(_: Output) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("numpy.core.multiarray failed to import") from None
        return 0

    assert run_command("neort", command, last=False, left=lambda: "nothing was done") == 143
    assert capsys.readouterr().err == "neort: ended by SIGTERM; nothing was done\n"
