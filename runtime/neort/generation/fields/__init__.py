"""The fields of GenerationConfig beyond the basic ones, in groups, each with the types of its arguments beside it."""

from __future__ import annotations

from .biases import BiasArguments, BiasOptions
from .filters import FilterArguments, FilterOptions
from .grammars import GrammarArguments, GrammarOptions
from .limits import LimitArguments, LimitOptions
from .penalties import PenaltyArguments, PenaltyOptions
from .search import MOST_SEQUENCES, SearchArguments, SearchOptions
from .text import TextArguments, TextOptions

__all__ = [
    "MOST_SEQUENCES",
    "BiasArguments",
    "BiasOptions",
    "FilterArguments",
    "FilterOptions",
    "GrammarArguments",
    "GrammarOptions",
    "LimitArguments",
    "LimitOptions",
    "PenaltyArguments",
    "PenaltyOptions",
    "SearchArguments",
    "SearchOptions",
    "TextArguments",
    "TextOptions",
]
