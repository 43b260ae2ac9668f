"""The text that an export is calibrated and verified on, as token sequences.

calibration.txt and verification.txt were written for this project: prose, dialogue, articles, code and numbers, with
nothing in common.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from neort.tokenizer import Tokenizer
from neort.verification import window_to_pass
from neort.wording import is_utf8

from ...architectures import Dimensions
from ...errors import ExportError

__all__ = ["Texts"]

CALIBRATION_TOKENS = 1024
VERIFICATION_TOKENS = 2048
EXPENSIVE = 300_000_000  # weights of all layers together; models beyond get fewer tokens
LEAST_TOKENS = 4  # to measure on
GOLDEN_EXTRA = 40  # positions past twice the window


class Texts:
    """Token sequences for one model, each past twice the window where the context allows it.

    Time grows with tokens times weights: large models get fewer sequences, one at least.
    """

    def __init__(self, tokenizer: Tokenizer, model: Dimensions, verification_text: str | None = None) -> None:
        """``verification_text`` replaces verification.txt.

        Raises ExportError when it is too short to measure on, or no text.
        """
        if verification_text is not None and not is_utf8(verification_text):
            raise ExportError("the text has halves of characters (surrogates), which no text file can hold; correct it")
        self.window = window_to_pass(model)
        self._length = min(model.max_position_embeddings, max(2 * self.window + GOLDEN_EXTRA, 512))
        self._share = min(1.0, EXPENSIVE / (12 * model.num_layers * model.hidden_size**2))
        self._calibration_text = _read("calibration.txt")
        self._verification_text = _read("verification.txt") if verification_text is None else verification_text
        self.calibration = self._sequences(tokenizer, self._calibration_text, CALIBRATION_TOKENS)
        self.verification = self._sequences(tokenizer, self._verification_text, VERIFICATION_TOKENS)
        self.golden = self.verification[0][: 2 * self.window + GOLDEN_EXTRA]
        if model.max_position_embeddings < LEAST_TOKENS:
            raise ExportError(
                f"the model has {model.max_position_embeddings} positions; it takes {LEAST_TOKENS} to calibrate and "
                "verify an export on text"
            )
        if len(self.golden) < LEAST_TOKENS:
            raise ExportError(f"the verification text has {len(self.golden)} tokens; give a longer one (--text)")

    def golden_positions(self) -> list[int]:
        """Return positions around the window's edge, past twice the window, and the last one."""
        wanted = [0, self.window - 1, self.window, self.window + 1, 2 * self.window, 2 * self.window + 1]
        return sorted({p for p in wanted if p < len(self.golden)} | {len(self.golden) - 1})

    def calibration_facts(self) -> dict[str, Any]:
        """Return what the manifest says about the calibration text."""
        return _facts(self._calibration_text, self.calibration)

    def verification_facts(self) -> dict[str, Any]:
        """Return what verification.json says about its text."""
        return _facts(self._verification_text, self.verification)

    def _sequences(self, tokenizer: Tokenizer, text: str, limit: int) -> list[list[int]]:
        """Consecutive sequences of equal length from the text's start, about ``limit`` tokens for a small model.

        Each begins as every prompt does, where the tokenizer puts a token before a text.
        """
        prefix = tokenizer.prefix_ids[: self._length - 1]
        length = self._length - len(prefix)
        ids = tokenizer.encode(text, add_special_tokens=False)[: max(int(limit * self._share), length)]
        whole = range(0, max(1, len(ids) - length + 1), length)
        return [prefix + ids[start : start + length] for start in whole]


def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _facts(text: str, sequences: list[list[int]]) -> dict[str, Any]:
    return {
        "sha256": hashlib.sha256(text.encode("utf-8")).hexdigest(),
        "tokens": sum(map(len, sequences)),
        "sequence_length": len(sequences[0]),
    }
