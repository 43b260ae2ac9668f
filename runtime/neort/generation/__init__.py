"""From logits to the next token, in numpy: options, processors, sampling."""

from __future__ import annotations

from .chooser import TokenChooser, own_processors
from .config import OPTIONS, GenerationConfig, GenerationOptions
from .constraints import Constraint, Grammars
from .hints import LOAD_KNOWN_ELSEWHERE, for_option, hinting
from .options import Option
from .processors import LogitsProcessor, build_processors
from .samplers import check_finite, greedy, log_softmax, make_generator, sample, softmax

__all__ = [
    "LOAD_KNOWN_ELSEWHERE",
    "OPTIONS",
    "Constraint",
    "GenerationConfig",
    "GenerationOptions",
    "Grammars",
    "LogitsProcessor",
    "Option",
    "TokenChooser",
    "build_processors",
    "check_finite",
    "for_option",
    "greedy",
    "hinting",
    "log_softmax",
    "make_generator",
    "own_processors",
    "sample",
    "softmax",
]
