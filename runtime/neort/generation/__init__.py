"""From logits to the next token, in numpy: options, processors, sampling."""

from __future__ import annotations

from .config import OPTIONS, GenerationConfig, GenerationOptions, SequenceOptions
from .options import Option
from .sampling import LogitsProcessor, build_processors, check_finite, greedy, log_softmax, make_generator, sample

__all__ = [
    "OPTIONS",
    "GenerationConfig",
    "GenerationOptions",
    "LogitsProcessor",
    "Option",
    "SequenceOptions",
    "build_processors",
    "check_finite",
    "greedy",
    "log_softmax",
    "make_generator",
    "sample",
]
