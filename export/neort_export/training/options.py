"""What to train on and how."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from neort.errors import ConfigError

from .corpus import END_OF_TEXT

__all__ = ["Options"]

LEAST_VOCABULARY = 257
MORE_THAN_0 = (
    *("hidden_size", "num_layers", "num_heads", "context", "window", "batch_size", "steps", "minutes", "threads"),
    *("learning_rate", "matrix_rate", "save_every", "temperature", "top_p", "repetition_penalty"),
)
OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class Options:
    """What to train on and how, in tokens, channels and layers; every field is an option of the command."""

    texts: tuple[Path, ...]
    output: Path
    valid: Path | None = None
    tokenizer: Path | None = None  # instead of training one, or the teacher's or init_from's
    vocab_size: int = 4096
    hidden_size: int = 192
    num_layers: int = 6
    num_heads: int = 6
    context: int = 512
    window: int = 128
    batch_size: int = 8
    optimizer: str = "adamw"
    learning_rate: float = 3e-3
    matrix_rate: float = 0.03  # of Muon
    weight_decay: float = 0.1
    dropout: float = 0.0
    init_from: Path | None = None  # a checkpoint of the same shape whose weights to begin with
    teacher: Path | None = None  # a checkpoint whose predictions to learn
    steps: int = 3000
    minutes: float | None = None  # instead of steps
    save_every: float | None = None  # minutes
    temperature: float | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError for an option out of range."""
        for name in MORE_THAN_0:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be more than 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"--dropout {self.dropout}: must be at least 0 and less than 1")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"--weight-decay {self.weight_decay}: must be at least 0")
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(f"--optimizer {self.optimizer}: unknown; use {' or '.join(OPTIMIZERS)}")
        if self.hidden_size % self.num_heads:
            raise ConfigError(f"--hidden-size {self.hidden_size}: must be a multiple of --num-heads {self.num_heads}")
        if self.vocab_size < LEAST_VOCABULARY:
            raise ConfigError(
                f"--vocab-size {self.vocab_size}: at least {LEAST_VOCABULARY}, for {END_OF_TEXT} and the 256 bytes"
            )

    @property
    def sampling(self) -> dict[str, float]:
        """The defaults that generate() takes from the checkpoint."""
        names = ("temperature", "top_p", "repetition_penalty")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
