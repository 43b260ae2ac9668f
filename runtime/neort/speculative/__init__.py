"""Tokens proposed ahead of the model: who proposes them, and how many."""

from __future__ import annotations

from .drafters import PROMPT_LOOKUP, Drafter, Fork, ModelDrafter, PromptLookup
from .speculator import Speculator, draft_cost, verification_cost

__all__ = [
    "PROMPT_LOOKUP",
    "Drafter",
    "Fork",
    "ModelDrafter",
    "PromptLookup",
    "Speculator",
    "draft_cost",
    "verification_cost",
]
