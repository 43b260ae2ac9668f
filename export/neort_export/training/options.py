"""What to train on and how."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from neort.errors import ConfigError

from .corpus import END_OF_TEXT

__all__ = ["Options"]

LEAST_VOCABULARY = 257
SIZES = ("hidden_size", "num_layers", "num_heads", "context", "window", "batch_size", "learning_rate")


@dataclass(frozen=True)
class Options:
    """What to train on and how, in tokens, channels and layers; every field is an option of the command."""

    texts: tuple[Path, ...]
    output: Path
    valid: Path | None = None
    tokenizer: Path | None = None  # instead of training one
    vocab_size: int = 4096
    hidden_size: int = 192
    num_layers: int = 6
    num_heads: int = 6
    context: int = 512
    window: int = 128
    batch_size: int = 8
    learning_rate: float = 3e-3
    steps: int = 3000
    minutes: float | None = None  # instead of steps
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError for an option out of range."""
        for name in (*SIZES, "steps", "minutes", "threads"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be more than 0")
        if self.hidden_size % self.num_heads:
            raise ConfigError(f"--hidden-size {self.hidden_size}: must be a multiple of --num-heads {self.num_heads}")
        if self.vocab_size < LEAST_VOCABULARY:
            raise ConfigError(
                f"--vocab-size {self.vocab_size}: at least {LEAST_VOCABULARY}, for {END_OF_TEXT} and the 256 bytes"
            )
