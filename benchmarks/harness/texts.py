"""Quality is measured on a text: its tokens, torch's logits of them, and how far a bundle's are from those."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neort.tokenizer import Tokenizer
from neort_export.reference import Reference

from .arguments import script_parser

__all__ = ["parse_text_args", "read_sequences", "torch_logits"]


def parse_text_args(description: str | None, tokens: int) -> argparse.Namespace:
    """CHECKPOINT, TEXT and --tokens, the arguments of all scripts that measure quality."""
    parser = script_parser(description)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("text", type=Path, help="UTF-8 text that the model was not trained on")
    parser.add_argument("--tokens", type=int, default=tokens)
    return parser.parse_args()


def read_sequences(args: argparse.Namespace, bundle: Path, length: int) -> list[list[int]]:
    """Consecutive sequences of ``length`` tokens from the start of the text, by the bundle's tokenizer."""
    ids = Tokenizer.from_file(bundle / "tokenizer.json").encode(args.text.read_text(encoding="utf-8"))[: args.tokens]
    return [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]


def torch_logits(reference: Reference, sequences: list[list[int]]) -> Iterator[NDArray[np.float32]]:
    """torch's logits [T, V] sequence by sequence, so that the logits of the whole text need not fit in memory."""
    for ids in sequences:
        yield reference.logits([ids])[0]
