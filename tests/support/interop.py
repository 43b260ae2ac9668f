"""What the tests of other runtimes share: prompts around and past the window, and what neort makes of them."""

from __future__ import annotations

import json
import shutil
import string
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import neort
from checkpoints import WINDOW, Floats, Ids
from folders import ROOT
from patience import PATIENCE

EXAMPLES = ROOT / "examples"
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


def texts_for(model: neort.Model, *, trained: bool) -> list[str]:
    """Prompts so long that they or the new tokens cross the window, or twice the window."""
    spec = model.bundle.spec
    window = spec.window_size if "local" in spec.attention_layers else WINDOW
    lengths = [5, window - 10, window, window + 1, 2 * window - 10, 3 * window + 7]
    if not trained:  # its tokenizer has one token per letter
        letters = np.random.default_rng(3).choice(list(string.ascii_letters), 4 * sum(lengths))
        return ["".join(letters[4 * n : 5 * n]) for n in lengths]
    text = (ROOT / "export/neort_export/verification/texts/verification.txt").read_text(encoding="utf-8")
    ids = model.tokenizer.encode(text)
    return [model.tokenizer.decode(ids[7 * n : 8 * n]) for n in lengths]


def program(file: Path) -> Program:
    """A program for Node.js."""

    def call(*arguments: object) -> list[dict[str, Any]]:
        done = run([shutil.which("node") or "node", file.name, *map(str, arguments)], file.parent)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.split("\n") if line]  # text may hold other ends of lines

    return call


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False, timeout=PATIENCE
    )
