"""On which Pythons and systems does pip find all that neort needs as wheels, and does neort run on those at hand?

    python -m benchmarks.machine.wheels [--pythons COMMAND ...]

Builds the source distribution, and the wheel from it. Resolves the runtime for every Python and system by uv, and each
extra where there is the runtime, from the registry that uv is set to; nothing may be compiled. So it tells of Pythons
and systems that are not here, too.
Then each command of ``--pythons`` installs the wheel into a fresh virtual environment, checks the bundled model and
generates with it; all must generate the same tokens.

Writes results/wheels.json: versions of what was resolved, the reason where nothing was, and what the Pythons said.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
import venv
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ..harness.arguments import script_parser
from ..harness.files import ROOT
from ..harness.results import write_results

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
SYSTEMS = {
    "Linux x86-64": "x86_64-manylinux_2_31",
    "Linux arm64": "aarch64-manylinux_2_31",
    "macOS 14 arm64": "aarch64-apple-darwin",
    "macOS 14 x86-64": "x86_64-apple-darwin",
    "Windows x86-64": "x86_64-pc-windows-msvc",
    "Windows arm64": "aarch64-pc-windows-msvc",
    "Alpine x86-64": "x86_64-unknown-linux-musl",
}
AT_ONCE = 5
MACOS = {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
EXTRAS = ("", "serve", "grammar", "export", "lm-eval", "ray")  # "" is the runtime itself
NAMED = ("numpy", "onnxruntime", "tiktoken", "llguidance", "torch", "transformers", "lm-eval", "ray")
INSTALL = """
import json, os, subprocess, sys, tempfile, venv
GENERATE = '''
import json, neort
out = neort.load().generate("It was a dark night and", max_new_tokens=16, do_sample=False)
print(json.dumps(list(out.token_ids)))
'''
found = {"python": sys.version.split()[0]}
with tempfile.TemporaryDirectory() as folder:
    venv.create(folder, with_pip=True)
    python = os.path.join(folder, "Scripts" if os.name == "nt" else "bin", "python")
    def run(*arguments):
        return subprocess.run([python, "-I", *arguments], capture_output=True, text=True)
    done = run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", sys.argv[1])
    if done.returncode:
        found["refused"] = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][0][7:]
    else:
        found["verified"] = run("-m", "neort", "verify").returncode == 0
        found["token_ids"] = json.loads(run("-c", GENERATE).stdout)
print(json.dumps(found))
"""


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--pythons", nargs="*", default=[sys.executable], help="commands that run a Python")
    args = parser.parse_args()
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as folder:
        tools = environment(Path(folder) / "tools")
        results = built(tools, Path(folder) / "dist")
        wheel = next((Path(folder) / "dist").glob("*.whl"))
        results["resolved"] = resolved(tools)
        results["installed"] = [installed(command, wheel) for command in args.pythons]
    tokens = {tuple(found["token_ids"]) for found in results["installed"] if "token_ids" in found}
    assert len(tokens) <= 1, tokens
    write_results("wheels", results)


def environment(folder: Path) -> Path:
    """The Python of a virtual environment with build and uv."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "build", "uv"], check=True)
    return python


def built(tools: Path, folder: Path) -> dict[str, Any]:
    """Names and bytes of what is built, and those of the files in the source distribution, folder by folder."""
    command = [tools, "-m", "build", "--outdir", folder, ROOT]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    sizes: dict[str, int] = {}
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        for member in archive:
            top = member.name.split("/")[1]
            sizes[top] = sizes.get(top, 0) + member.size
    return {
        "built": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
        "source_bytes": dict(sorted(sizes.items(), key=lambda item: -item[1])),
    }


def resolved(tools: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """By extra, system and Python: the versions of what neort names, or why there are none."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:  # what takes long is the registry
        for extra, (system, platform) in itertools.product(EXTRAS, SYSTEMS.items()):
            runtime = found["neort"][system] if extra else {python: {} for python in PYTHONS}
            pythons = [python for python in PYTHONS if "why" not in runtime[python]]
            rows = pool.map(partial(resolution, tools, extra, platform), pythons)
            row = runtime | dict(zip(pythons, rows, strict=True))
            found.setdefault(extra or "neort", {})[system] = row
            print(extra or "neort", system, {python: "why" not in each for python, each in row.items()}, flush=True)
    return found


def resolution(tools: Path, extra: str, platform: str, python: str) -> dict[str, Any]:
    """The versions that uv finds as wheels, of the packages in ``NAMED``; otherwise its reason, as ``why``."""
    options = ["--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    options += ["--python-version", python, "--python-platform", platform, *(["--extra", extra] if extra else [])]
    done = subprocess.run(
        [str(tools), "-m", "uv", "pip", "compile", *options, str(ROOT / "pyproject.toml")],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | MACOS,
    )
    if done.returncode:
        reason = done.stderr.partition("cause:")[2] or done.stderr
        return {"why": " ".join(reason.partition("hint:")[0].split())}
    lines = (line.partition("==") for line in done.stdout.splitlines())
    return {name: version.partition(" ")[0] for name, _, version in lines if name in NAMED}


def installed(command: str, wheel: Path) -> dict[str, Any]:
    """What a Python says of the wheel in a fresh environment."""
    done = subprocess.run(
        [*shlex.split(command), "-", str(wheel)], input=INSTALL, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    print(found, flush=True)
    return found


if __name__ == "__main__":
    main()
