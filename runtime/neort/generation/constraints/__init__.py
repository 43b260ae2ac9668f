"""Grammars that a text follows from its first token to its last: what may be given, and what rules tokens out.

The grammars are llguidance's (https://github.com/guidance-ai/llguidance), which is loaded by the first one.
"""

from __future__ import annotations

from .constraint import Constraint
from .grammars import Grammars
from .kinds import CONSTRAINTS, Choices, Grammar, JsonSchema

__all__ = ["CONSTRAINTS", "Choices", "Constraint", "Grammar", "Grammars", "JsonSchema"]
