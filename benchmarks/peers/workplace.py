"""Starts a system in a process of its own: makes its virtual environment and converts the checkpoint where needed.

Everything lies in one folder: WORK/SHAPE is the checkpoint, WORK/SHAPE-prepared/... the conversions,
WORK/environments/... the virtual environments, WORK/logs/... what the systems print. Deleting a part makes it anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

from ..checkpoints.shapes import make_shape
from ..harness.files import ROOT
from .catalog import SYSTEMS

__all__ = ["UnavailableError", "Worker", "Workplace"]

REQUIREMENTS = Path(__file__).parent / "requirements"
WORKER = ["-m", "benchmarks.peers.worker"]  # runs where the package lies
BUILD = {"CMAKE_ARGS": "-DGGML_NATIVE=ON"}  # llama.cpp is compiled for this CPU, as its own tools do


class UnavailableError(Exception):
    """A system cannot be installed, converted, loaded or run here; says why."""


class Workplace:
    """A shape's checkpoint and what the systems make of it."""

    def __init__(self, work: Path, shape: str) -> None:
        self.work, self.shape = work.resolve(), shape

    @property
    def checkpoint(self) -> Path:
        """The checkpoint with random weights, made when it is missing."""
        folder = self.work / self.shape
        if not folder.exists():
            make_shape(self.shape, folder)
        return folder

    def python(self, system: str) -> Path:
        """The Python that has a system's packages, in a virtual environment made when it is missing."""
        name = SYSTEMS[system].environment
        if not name:
            return Path(sys.executable)
        folder = self.work / "environments" / name
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        done = folder / "installed"
        if not done.exists():
            venv.create(folder, with_pip=True, clear=True)
            command = [python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS / f"{name}.txt"]
            self.run(f"{name} installation", command, BUILD)
            done.touch()
        return python

    def prepared(self, system: str) -> Path:
        """The system's conversion of the checkpoint, made when it is missing. It appears under its name when whole."""
        folder = self.work / f"{self.shape}-prepared" / SYSTEMS[system].prepared
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}-partial")
            shutil.rmtree(partial, ignore_errors=True)
            maker = next(name for name in SYSTEMS if SYSTEMS[name].prepared == SYSTEMS[system].prepared)
            command = [self.python(maker), *WORKER, "prepare", maker, self.checkpoint, partial]
            try:
                self.run(f"{system} conversion", command)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return folder

    def files(self, system: str) -> list[Path]:
        """The files that a system loads: its conversion, or the checkpoint where it has none."""
        folder = self.prepared(system)
        if (folder / "checkpoint").exists():
            folder = self.checkpoint
        return [file for file in folder.rglob("*") if file.is_file()]

    def log(self, name: str) -> Path:
        """The file for what a system prints."""
        folder = self.work / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.shape} {name}.txt"

    def run(self, name: str, command: list[Any], environment: dict[str, str] | None = None) -> None:
        """Run a command to its end. Raises UnavailableError when it fails."""
        log = self.log(name)
        with log.open("w", encoding="utf-8") as file:
            status = subprocess.run(  # noqa: PLW1510
                list(map(str, command)), cwd=ROOT, stdout=file, stderr=file, env={**os.environ, **(environment or {})}
            ).returncode
        if status:
            raise UnavailableError(f"{name} failed with status {status}: {last_line(log)}")


class Worker:
    """A loaded system; see `worker`. A context manager, which ends the process."""

    def __init__(self, place: Workplace, system: str, threads: int) -> None:
        folder, python = place.prepared(system), place.python(system)
        self.system, self.log = system, place.log(system)
        settings = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        began = time.perf_counter()
        with self.log.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [python, *WORKER, "serve", system, folder, str(threads)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **settings},
            )
        self.load_seconds: float = self._answer()["load_seconds"]  # imports included
        self.start_seconds = time.perf_counter() - began  # from the start of the process

    def measure(self, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
        """A Timing, as a dictionary. Raises UnavailableError when the process ends or generates other than asked."""
        timing = self._ask({"prompts": prompts, "new_tokens": new_tokens})
        counts = [len(tokens) for tokens in timing["tokens"]]
        if counts != [new_tokens] * len(prompts):
            raise UnavailableError(f"{self.system} generated {counts} tokens instead of {new_tokens} per prompt")
        return timing

    def libraries(self) -> dict[str, str]:
        """The versions of what the system runs on."""
        return self._ask("libraries")

    def _ask(self, request: object) -> dict[str, Any]:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # _answer() says why
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            raise UnavailableError(f"{self.system} ended with status {status}: {last_line(self.log)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def last_line(log: Path) -> str:
    """The end of what a program printed, which for an exception is its message."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it printed nothing"
