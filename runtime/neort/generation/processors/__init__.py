"""Logits processors: what reshapes the next token's distribution before one is chosen.

The results are those of transformers' classes of similar names, ties included, or of llama.cpp's or vLLM's where
transformers has none. Option values are taken as `GenerationConfig` checked them, and at least one logit must be
finite. No processor knows the model.
"""

from __future__ import annotations

from .biases import AllowedTokens, SequenceBias, bad_words, logit_bias
from .chain import build_processors
from .dry import Breakers, Dry, breakers_of
from .entropy_filters import EpsilonCutoff, EtaCutoff, TopH, TypicalP
from .filters import Filter, Filters, MinP, TopK, TopNSigma, TopP, Xtc
from .lengths import ExponentialDecay, ForcedTokens, MinLength, SuppressAtBegin, SuppressTokens
from .penalties import NoRepeatNGram, OccurrencePenalties, RepetitionPenalty
from .protocol import AllowedTokensFunction, LogitsProcessor, PrefixAllowed, changes_argmax
from .scaling import RemoveInvalid, Renormalize, Temperature

__all__ = [
    "AllowedTokens",
    "AllowedTokensFunction",
    "Breakers",
    "Dry",
    "EpsilonCutoff",
    "EtaCutoff",
    "ExponentialDecay",
    "Filter",
    "Filters",
    "ForcedTokens",
    "LogitsProcessor",
    "MinLength",
    "MinP",
    "NoRepeatNGram",
    "OccurrencePenalties",
    "PrefixAllowed",
    "RemoveInvalid",
    "Renormalize",
    "RepetitionPenalty",
    "SequenceBias",
    "SuppressAtBegin",
    "SuppressTokens",
    "Temperature",
    "TopH",
    "TopK",
    "TopNSigma",
    "TopP",
    "TypicalP",
    "Xtc",
    "bad_words",
    "breakers_of",
    "build_processors",
    "changes_argmax",
    "logit_bias",
]
