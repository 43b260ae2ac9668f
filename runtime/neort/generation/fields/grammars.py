"""Options of a grammar that the text follows from its first token to its last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from ..constraints.kinds import Choices, Grammar, JsonSchema
from ..options import option

__all__ = ["GrammarArguments", "GrammarOptions"]


@dataclass(frozen=True, kw_only=True)
class GrammarOptions:
    """What the whole text looks like; one of them may be given."""

    json_schema: str | Mapping[str, Any] | bool | None = option(
        None, JsonSchema(), "the text is JSON that fits this JSON Schema", flag_help="; @FILE reads it from a file"
    )
    regex: str | None = option(None, Grammar("REGEX"), "the whole text fits this regular expression")
    grammar: str | None = option(
        None,
        Grammar("LARK", from_file=True),
        "the text fits this grammar, in llguidance's dialect of Lark",
        flag_help="; @FILE reads it from a file",
    )
    choice: Sequence[str] | None = option(None, Choices(), "the text is one of these; may be several")


class GrammarArguments(TypedDict, total=False):
    """The types of `GrammarOptions`."""

    json_schema: str | Mapping[str, Any] | bool | None
    regex: str | None
    grammar: str | None
    choice: Sequence[str] | None
