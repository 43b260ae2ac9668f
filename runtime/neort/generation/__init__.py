"""From logits to the next token, in numpy: options, processors, sampling."""

from __future__ import annotations

from .chooser import TokenChooser, own_criteria, own_processors
from .config import OPTIONS, GenerationConfig, GenerationOptions
from .hints import LOAD_KNOWN_ELSEWHERE, for_option, hinting
from .options import Option
from .processors import AllowedTokensFunction, LogitsProcessor, PrefixAllowed, build_processors
from .samplers import check_finite, greedy, log_softmax, make_generator, sample, softmax
from .stopping import StoppingCriterion

__all__ = [
    "LOAD_KNOWN_ELSEWHERE",
    "OPTIONS",
    "AllowedTokensFunction",
    "GenerationConfig",
    "GenerationOptions",
    "LogitsProcessor",
    "Option",
    "PrefixAllowed",
    "StoppingCriterion",
    "TokenChooser",
    "build_processors",
    "check_finite",
    "for_option",
    "greedy",
    "hinting",
    "log_softmax",
    "make_generator",
    "own_criteria",
    "own_processors",
    "sample",
    "softmax",
]
