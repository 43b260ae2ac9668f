"""Bundles, prompts around and past the attention window, and what neort makes of them: others must do the same."""

from __future__ import annotations

import json
import platform
import shutil
import string
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neort
from export.checkpoints import Floats, Ids
from neort_export import Report, export

EXAMPLES = Path(__file__).parents[3] / "examples"
NEW_TOKENS = 24
TOLERANCE = {"fp32": 1e-4, "int8": 0.25}  # int8: another chunking may move single roundings

Program = Callable[..., list[dict[str, Any]]]  # takes arguments, returns the objects that it prints
Install = Callable[[str], Path]


@dataclass(frozen=True)
class Case:
    """A bundle and its prompts; ``tokens`` and ``logits`` [S, V] are neort's."""

    bundle: Path
    texts: list[str]
    prompts: list[list[int]]
    tokens: list[list[int]]
    logits: list[Floats]

    @property
    def tolerance(self) -> float:
        return TOLERANCE[neort.load(self.bundle).bundle.quantization]

    def padded(self, side: str, padding: int = 0) -> tuple[Ids, Ids]:
        """All prompts as one array [B, S], and its mask."""
        width = max(map(len, self.prompts))
        ids = np.full((len(self.prompts), width), padding, np.int64)
        mask = np.zeros_like(ids)
        for i, prompt in enumerate(self.prompts):
            place = slice(width - len(prompt), None) if side == "left" else slice(len(prompt))
            ids[i, place], mask[i, place] = prompt, 1
        return ids, mask

    def agrees(self, generated: list[list[int]]) -> bool:
        """Whether these are neort's tokens; what follows an end of text does not count."""
        return [tokens[: len(own)] for own, tokens in zip(self.tokens, generated, strict=True)] == self.tokens


@pytest.fixture(scope="session", params=["fp32", "int8", "trained int8"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "trained int8":
        bundle: Path = request.getfixturevalue("trained_bundle")
    elif request.param == "int8":
        bundle = request.getfixturevalue("int8_report").path
    else:
        bundle = request.getfixturevalue("fp32_bundle")
    model = neort.load(bundle)
    texts = _texts(model, trained=request.param == "trained int8")
    prompts = [model.tokenizer.encode(text) for text in texts]
    tokens = [list(model.generate(np.array(prompt), max_new_tokens=NEW_TOKENS).token_ids) for prompt in prompts]
    assert any(len(set(own)) > 3 for own in tokens)
    return Case(bundle, texts, prompts, tokens, [model.logits(prompt) for prompt in prompts])


@pytest.fixture(scope="session")
def trained_bundle(neo_mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    report: Report = export(neo_mini, tmp_path_factory.mktemp("trained") / "bundle")
    return report.path


def _texts(model: neort.Model, *, trained: bool) -> list[str]:
    """Prompts so long that they or the new tokens cross the window, or twice the window."""
    window = model.bundle.spec.window_size
    lengths = [5, window - 10, window, window + 1, 2 * window - 10, 3 * window + 7]
    if not trained:  # its tokenizer has one token per letter
        letters = np.random.default_rng(3).choice(list(string.ascii_letters), 4 * sum(lengths))
        return ["".join(letters[4 * n : 5 * n]) for n in lengths]
    text = (Path(__file__).parents[3] / "export/neort_export/texts/verification.txt").read_text(encoding="utf-8")
    ids = model.tokenizer.encode(text)
    return [model.tokenizer.decode(ids[7 * n : 8 * n]) for n in lengths]


@pytest.fixture(scope="session")
def npm() -> str:
    """The path of npm, where node is installed and the registry answers."""
    path = shutil.which("npm")
    if path is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    if platform.system() == "Darwin" and platform.machine() == "x86_64":
        pytest.skip("onnxruntime-node has no binaries for Intel Macs")
    if subprocess.run([path, "ping"], capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("needs the npm registry: npm ping fails")
    return path


@pytest.fixture(scope="session")
def installed(npm: str, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Installs a folder of examples somewhere else, once, and returns the place."""
    places: dict[str, Path] = {}

    def install(name: str) -> Path:
        if name not in places:
            folder = tmp_path_factory.mktemp("examples") / name
            shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("node_modules"))
            done = _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
            assert done.returncode == 0, done.stderr
            places[name] = folder
        return places[name]

    return install


def program(file: Path) -> Program:
    """A program for Node.js."""

    def run(*arguments: object) -> list[dict[str, Any]]:
        done = _run([shutil.which("node") or "node", file.name, *map(str, arguments)], file.parent)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False, timeout=600
    )
