"""Turns the exclusive bounds of JSON Schemas into inclusive ones, a tiny step inside.

Of llguidance's grammars those with ``"exclusiveMinimum": 3`` allow 3.00000000000000001, which readers of JSON take for
3, and within one unit even 3 itself.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["with_inclusive_bounds"]

DATA = {"const", "enum", "default", "examples"}  # keywords whose values are no schemas
NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}  # schemas by name
STEP = 2.0**-46  # of the bound; llguidance rounds what it reads to some doubles beside
LEAST = 1e-15  # step from 0
LARGEST = 2.0**44  # beyond it a step may pass a whole number


def with_inclusive_bounds(text: str) -> str:
    """Return a JSON Schema, as JSON, with an inclusive bound in the place of each exclusive one."""
    if "exclusive" not in text:
        return text
    return json.dumps(_schema(json.loads(text)), ensure_ascii=False)


def _schema(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: _keyword(name, value) for name, value in schema.items()}
    for exclusive, inclusive, tighter, sign in (
        ("exclusiveMinimum", "minimum", max, 1),
        ("exclusiveMaximum", "maximum", min, -1),
    ):
        bound, other = changed.get(exclusive), changed.get(inclusive)
        if isinstance(bound, (int, float)) and _is_number(bound) and (other is None or _is_number(other)):
            del changed[exclusive]
            inside = bound + sign * max(abs(bound) * STEP, LEAST)
            changed[inclusive] = inside if other is None else tighter(inside, other)
    return changed


def _keyword(name: str, value: Any) -> Any:
    if name in DATA:
        return value
    if name in NAMED and isinstance(value, dict):
        return {each: _schema(schema) for each, schema in value.items()}
    return _schema(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST
