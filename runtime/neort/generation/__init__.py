"""From logits to the next token, in numpy: options, processors, samplers, and the chooser that holds them."""

from __future__ import annotations

from .chooser import TokenChooser
from .config import GenerationConfig
from .processors import LogitsProcessor, build_processors
from .samplers import check_finite, greedy, log_softmax, make_generator, sample, softmax

__all__ = [
    "GenerationConfig",
    "LogitsProcessor",
    "TokenChooser",
    "build_processors",
    "check_finite",
    "greedy",
    "log_softmax",
    "make_generator",
    "sample",
    "softmax",
]
