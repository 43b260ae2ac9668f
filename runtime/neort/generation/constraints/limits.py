"""Refuses grammars that llguidance's own limits do not bound: on these it works for hours, or ends the process.

Chains of thousands of rules overflow its stack; regular expressions that must all hold at once multiply their states,
and so does a large multipleOf.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

__all__ = ["check_limits"]

MOST_RULES = 1_000  # of a Lark grammar, and references of a schema; some 2,500 overflow a stack of 8 MB
MOST_AT_ONCE = 12  # regular expressions; 16 take half a second, each two more five times as long
LARGEST_MULTIPLE = 100_000  # of multipleOf, without its decimal point

_RULE = re.compile(r"^[ \t]*[?!]?\w+[^\n:]*:", re.MULTILINE)


def check_limits(name: str, value: str | tuple[str, ...]) -> None:
    """Raise ValueError for a schema, or a grammar of Lark, beyond the limits of this module."""
    if name == "grammar" and isinstance(value, str):
        _check("rules in a grammar", len(_RULE.findall(value)), MOST_RULES)
        _check("& in a grammar", value.count("&"), MOST_AT_ONCE)
    if name == "json_schema" and isinstance(value, str):
        document = json.loads(value)
        schemas = list(_objects(document))
        _check("$ref in a schema", sum("$ref" in each for each in schemas), MOST_RULES)
        for schema in schemas:
            _check("steps of multipleOf", _whole(schema.get("multipleOf")), LARGEST_MULTIPLE)
        if sum("pattern" in each or "format" in each for each in schemas) > MOST_AT_ONCE:
            patterns = _Patterns(document)
            for schema in schemas:
                _check("patterns for one string", patterns.at_once(schema), MOST_AT_ONCE)


def _check(what: str, count: int, most: int) -> None:
    if count > most:
        raise ValueError(f"{min(count, 10**12):,} {what}, and at most {most:,} are computed in good time: use fewer.")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object within a value of JSON, itself included."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(each)


def _whole(multiple: Any) -> int:
    """A number without its decimal point; 0 for what is none."""
    if isinstance(multiple, bool) or not isinstance(multiple, (int, float)):
        return 0
    number = Decimal(repr(multiple)).normalize()
    return int(abs(number).scaleb(max(0, -int(number.as_tuple().exponent))))


class _Patterns:
    """Counts the regular expressions that one string may have to fit, all of them."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._referred: dict[str, int] = {}

    def at_once(self, schema: Any) -> int:
        if not isinstance(schema, dict):
            return 0
        count = int("pattern" in schema) + int("format" in schema)
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference not in self._referred:
                self._referred[reference] = 0  # while it is counted
                self._referred[reference] = self.at_once(self._resolved(reference))
            count += self._referred[reference]
        for keyword, together in (("allOf", sum), ("anyOf", max), ("oneOf", max)):
            members = schema.get(keyword)
            if isinstance(members, list) and members:
                count += together(map(self.at_once, members))
        return count

    def _resolved(self, reference: str) -> Any:
        """What a reference within the document names, None for what is not there."""
        found = self._document
        for part in reference.removeprefix("#").split("/")[1:]:
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return found if reference.startswith("#") else None
