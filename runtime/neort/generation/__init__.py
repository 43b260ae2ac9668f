"""From logits to the next token, in numpy: options, processors, sampling."""

from __future__ import annotations

from .config import GenerationConfig
from .sampling import LogitsProcessor, build_processors, check_finite, greedy, log_softmax, make_generator, sample

__all__ = [
    "GenerationConfig",
    "LogitsProcessor",
    "build_processors",
    "check_finite",
    "greedy",
    "log_softmax",
    "make_generator",
    "sample",
]
