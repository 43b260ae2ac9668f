"""What does a frozen application weigh, how soon does it write, and does it need anything of its machine?

    python -m benchmarks.machine.frozen WORK [--rounds 10]

Packs examples/frozen by PyInstaller in an environment of its own, WORK/environment: by its build.py into one folder and
into one file, and into a folder without build.py's list of what is not needed. What is in WORK already is not made
again. Each program must write what story.py writes in that environment, and does so without an environment variable,
without a network, in another folder, in a folder that it may not write to, and as another user where it is root that
runs this. Then they start in turns, with all files in the page cache: seconds of the process until it has written one
token, and its peak memory.

Writes results/frozen.json.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

from ..harness.arguments import script_parser
from ..harness.files import ROOT
from ..harness.results import write_results

EXAMPLE = ROOT / "examples" / "frozen"
TEXT = "It was a dark night and"
NEW_TOKENS = 40
NOBODY = 65534
LARGE = 4_000_000  # bytes; files that are named


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    work: Path = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    work.chmod(0o755)
    os.environ.pop("PYTHONPATH", None)  # the environment has a neort of its own
    python = environment(work)
    programs = {
        "folder": built(work / "folder", [python, EXAMPLE / "build.py", "--output", work / "folder"]),
        "one file": built(work / "file", [python, EXAMPLE / "build.py", "--one-file", "--output", work / "file"]),
        "folder, nothing left out": built(work / "all", plain(python, work / "all")),
    }
    if stripped(work, programs["folder"]):
        programs["folder, Python without symbols"] = work / "stripped" / "story"
    expected = run([python, EXAMPLE / "story.py", TEXT, NEW_TOKENS])
    results = {name: facts(program, expected) for name, program in programs.items()}
    commands: dict[str, list[Any]] = {"python story.py": [python, EXAMPLE / "story.py"]}
    starts = measured(commands | {name: [program] for name, program in programs.items()}, args.rounds)
    write_results(
        "frozen",
        {"text": expected, "python": starts.pop("python story.py")}
        | {"programs": {name: found | starts[name] for name, found in results.items()}},
    )


def environment(work: Path) -> Path:
    """The Python of a virtual environment with neort and PyInstaller, made when it is missing."""
    folder = work / "environment"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        run([python, "-m", "pip", "install", "--quiet", ROOT, "pyinstaller"])
        done.touch()
    return python


def plain(python: Path, output: Path) -> list[Any]:
    """PyInstaller as it is called without options for neort."""
    places = ["--distpath", output, "--workpath", output / "work", "--specpath", output / "work"]
    return [python, "-m", "PyInstaller", "--noconfirm", *places, EXAMPLE / "story.py"]


def built(output: Path, command: list[Any]) -> Path:
    """The program that a command makes, when it is missing."""
    name = "story.exe" if os.name == "nt" else "story"
    found = output / name
    if not found.exists():
        run(command)
    return found / name if found.is_dir() else found


def stripped(work: Path, program: Path) -> bool:
    """Copy a folder and take the symbols out of its Python, as a distribution's has none; whether there were any."""
    library = next((program.parent / "_internal").glob("libpython3*.so*"), None)
    if library is None or not shutil.which("strip"):
        return False
    shutil.rmtree(work / "stripped", ignore_errors=True)
    copy = shutil.copytree(program.parent, work / "stripped", symlinks=True) / library.relative_to(program.parent)
    run(["strip", "--strip-unneeded", copy])
    return copy.stat().st_size < library.stat().st_size


def facts(program: Path, expected: str) -> dict[str, Any]:
    """What a program consists of. Raises AssertionError where it writes another text than it should, or has torch."""
    one_file = not (program.parent / "_internal").is_dir()
    files = [program]
    if not one_file:  # links lead from one library to another
        files = [file for file in program.parent.rglob("*") if file.is_file() and not file.is_symlink()]
    assert not [file for file in files if "torch" in str(file.relative_to(program.parent))]
    outside = written_elsewhere(program)
    assert outside == expected, outside
    large = {file.name: file.stat().st_size for file in files if file.stat().st_size >= LARGE}
    return {
        "bytes": sum(file.stat().st_size for file in files),
        "files": len(files),
        "large_files": dict(sorted(large.items(), key=lambda item: -item[1])),
        "without": without(),
    }


def without() -> list[str]:
    """What a program is run without."""
    return ["environment variables", "leave to write where it lies", *(["a network"] if no_network() else [])]


def written_elsewhere(program: Path) -> str:
    """What a program writes where there is nothing but itself, which nobody can write to."""
    nobody: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if is_root() else {}
    command = [*no_network(), program, TEXT, NEW_TOKENS]
    if nobody and no_network():
        command = [*no_network(), "--setuid", NOBODY, "--setgid", NOBODY, program, TEXT, NEW_TOKENS]
        nobody = {}
    folders = [program.parent, *(path for path in program.parent.rglob("*") if path.is_dir())]
    modes = {folder: folder.stat().st_mode for folder in folders}
    for folder in folders:
        folder.chmod(0o555)
    try:
        return run(command, env={}, cwd=Path(program.anchor), **nobody)
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)


def no_network() -> list[str]:
    """What runs a command in a network namespace that has no interface; nothing where that cannot be."""
    unshare = shutil.which("unshare")
    command = [unshare or "unshare", "--net", *([] if is_root() else ["--map-root-user"])]
    if unshare is None or subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        return []
    return command


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def measured(commands: dict[str, list[Any]], rounds: int) -> dict[str, Any]:
    """Each command's starts, in turns: until one token is written and the process has ended."""
    raw: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for i in range(rounds + 1):
        for name, command in commands.items():
            row = started(list(map(str, [*command, TEXT, 1])))
            if i:  # the first round brings the files into the page cache
                raw[name].append(row)
    return {
        name: {key: statistics.median_low(row[key] for row in rows) for key in rows[0]} | {"raw": rows}
        for name, rows in raw.items()
    }


def started(command: list[str]) -> dict[str, float]:
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    if not hasattr(os, "wait4"):
        assert process.wait() == 0, command
        return {"seconds": round(time.perf_counter() - began, 4)}
    _, status, usage = os.wait4(process.pid, 0)
    seconds = round(time.perf_counter() - began, 4)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": seconds, "peak_bytes": peak}


def run(command: list[Any], **options: Any) -> str:
    """What a command prints. Raises subprocess.CalledProcessError where it fails."""
    found: str = subprocess.run(
        list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8", **options
    ).stdout
    return found


if __name__ == "__main__":
    main()
