"""What all comparisons take on their command line, and the prompts that every system gets."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from neort.backend import available_cpus

from ..harness.arguments import script_parser

__all__ = ["make_prompts", "system_parser"]

VOCABULARY = 50257  # of the published shapes


def system_parser(description: str | None, systems: Iterable[str]) -> argparse.ArgumentParser:
    """A parser of the arguments that all comparisons take: WORK, --shape, --systems, --threads."""
    names = list(systems)
    parser = script_parser(description)
    parser.add_argument("work", type=Path, help="folder for checkpoints, conversions and virtual environments")
    parser.add_argument("--shape", default="gpt-neo-1.3b")
    parser.add_argument("--systems", nargs="+", choices=names, default=names)
    parser.add_argument("--threads", type=int, default=available_cpus())
    return parser


def make_prompts(length: int, count: int, round_number: int = 0) -> list[list[int]]:
    """Random tokens, others in every round and cell; only in round 0 every count begins with the reference's prompt."""
    generator = np.random.default_rng((length, round_number, count if round_number else 0))
    prompts: list[list[int]] = generator.integers(0, VOCABULARY, (count, length)).tolist()
    return prompts
