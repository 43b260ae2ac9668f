"""From logits to the next token, in numpy: options, processors, sampling."""

from __future__ import annotations

from .beam import BeamSearch, Candidate, Hypothesis
from .chooser import TokenChooser, own_criteria, own_processors
from .config import OPTIONS, SAMPLING, GenerationConfig, GenerationOptions
from .constraints import Constraint, Grammars
from .fields import MOST_SEQUENCES
from .guidance import guided
from .hints import LOAD_KNOWN_ELSEWHERE, for_option, hinting
from .logprobs import LogProbabilities, TokenLogprob, log_probabilities
from .options import Option
from .processors import AllowedTokensFunction, LogitsProcessor, PrefixAllowed, build_processors
from .samplers import check_finite, greedy, log_softmax, make_generator, sample, softmax
from .stopping import StoppingCriterion

__all__ = [
    "LOAD_KNOWN_ELSEWHERE",
    "MOST_SEQUENCES",
    "OPTIONS",
    "SAMPLING",
    "AllowedTokensFunction",
    "BeamSearch",
    "Candidate",
    "Constraint",
    "GenerationConfig",
    "GenerationOptions",
    "Grammars",
    "Hypothesis",
    "LogProbabilities",
    "LogitsProcessor",
    "Option",
    "PrefixAllowed",
    "StoppingCriterion",
    "TokenChooser",
    "TokenLogprob",
    "build_processors",
    "check_finite",
    "for_option",
    "greedy",
    "guided",
    "hinting",
    "log_probabilities",
    "log_softmax",
    "make_generator",
    "own_criteria",
    "own_processors",
    "sample",
    "softmax",
]
