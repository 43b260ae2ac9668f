"""How probable a model finds a text: log-likelihoods, perplexities, and the best of several options."""

from __future__ import annotations

from .pairs import Pair, encode_pair
from .prefix_token import prefix_token
from .results import Choice, Normalization, Perplexity, Score
from .scorer import Scorer
from .texts import Overflow, Progress, TextScorer
from .windows import Window, rolling_windows

__all__ = [
    "Choice",
    "Normalization",
    "Overflow",
    "Pair",
    "Perplexity",
    "Progress",
    "Score",
    "Scorer",
    "TextScorer",
    "Window",
    "encode_pair",
    "prefix_token",
    "rolling_windows",
]
