"""The values of the options that constrain a text, as they are stored: text, of which a grammar is made later.

Knows what a value looks like; whether it is a sound schema or expression is for the grammar's library to say.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ArgumentTypeError, ConfigError
from ...paths import read_regular
from ...wording import is_utf8, shortened
from ..options import Kind

__all__ = ["CONSTRAINTS", "LONGEST", "Choices", "Grammar", "JsonSchema"]

#: The options of GenerationConfig that constrain a text, of which one may be given.
CONSTRAINTS = ("json_schema", "regex", "grammar", "choice")

LONGEST = 1_000_000  # characters of a grammar: compiling it takes a second then


@dataclass(frozen=True)
class Grammar(Kind):
    """The text of a grammar; ``metavar`` is what the command line calls it, ``from_file`` whether @FILE names one."""

    metavar: str
    from_file: bool = False

    def check(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            raise ArgumentTypeError(f"{name}={shortened(value)} must be a string, not {type(value).__name__}")
        return _checked_text(name, value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": LONGEST}

    def arguments(self) -> dict[str, Any]:
        return {"metavar": self.metavar, "type": _text_or_file} if self.from_file else {"metavar": self.metavar}


@dataclass(frozen=True)
class JsonSchema(Kind):
    """A JSON Schema: a mapping, True, or either as JSON; stored as JSON, its keys in the order given."""

    def check(self, name: str, value: object) -> str:
        schema = _parsed(name, value) if isinstance(value, str) else value
        if not isinstance(schema, (Mapping, bool)):
            raise ArgumentTypeError(
                f"{name}={shortened(value)} must be a JSON Schema, an object or True, not {type(schema).__name__}: "
                "give a mapping or JSON (of a pydantic model what its model_json_schema() returns)"
            )
        if schema is False:
            raise ConfigError(
                f"{name}=False allows no value at all: use True for any JSON value, or None to leave off."
            )
        return _checked_text(name, _written(name, {} if schema is True else dict(schema)))

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "object"}, {"const": True}, {"type": "string", "maxLength": LONGEST}]}

    def arguments(self) -> dict[str, Any]:
        return {"metavar": "JSON", "type": _text_or_file}


@dataclass(frozen=True)
class Choices(Kind):
    """A sequence of strings, none of them empty; stored as a tuple, each once."""

    def check(self, name: str, value: object) -> tuple[str, ...]:
        if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
            raise ArgumentTypeError(
                f"{name}={shortened(value)} must be a sequence of strings, not {type(value).__name__}: "
                "put one alone in a list, too"
            )
        if not value:
            raise ConfigError(
                f"{name}={shortened(value)} holds no text to choose: name one, or use None to leave it off."
            )
        for text in value:
            if not isinstance(text, str):
                raise ArgumentTypeError(f"{name} holds {shortened(text)}, which is no string but {type(text).__name__}")
            if not text:
                raise ConfigError(f"{name} holds an empty string, which no token writes: leave it out.")
        _checked_text(name, "".join(value))
        return tuple(dict.fromkeys(value))

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}

    def arguments(self) -> dict[str, Any]:
        return {"action": "append", "metavar": "TEXT"}


def _checked_text(name: str, text: str) -> str:
    """The text of a grammar. Raises ConfigError for one that is empty, too long or no UTF-8."""
    if not text:
        raise ConfigError(f"{name}={text!r} is empty: use None to leave it off.")
    if len(text) > LONGEST:
        raise ConfigError(f"{name} has {len(text):,} characters, and at most {LONGEST:,} are read: shorten it.")
    if not is_utf8(text):
        raise ConfigError(f"{name}={shortened(text)} holds a lone surrogate, which no text has: leave it out.")
    return text


def _parsed(name: str, text: str) -> object:
    """What JSON says. Raises ConfigError for what is none."""
    try:
        return json.loads(_checked_text(name, text))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name}={shortened(text)} is no JSON ({error}): correct it, or give a mapping.") from None
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{name}={shortened(text)} cannot be read as JSON ({error}): make it simpler.") from None


def _written(name: str, schema: dict[str, Any]) -> str:
    """A schema as JSON. Raises ArgumentTypeError for values that JSON lacks, ConfigError for NaN or too deep a one."""
    try:
        return json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except TypeError as error:
        raise ArgumentTypeError(f"{name} holds what JSON cannot say ({error}): give plain dicts and lists") from None
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{name} cannot be written as JSON ({error}): make it simpler.") from None


def _text_or_file(argument: str) -> str:
    """An argument, or what stands in the file that it names as @FILE. Raises argparse.ArgumentTypeError."""
    if not argument.startswith("@"):
        return argument
    try:
        return read_regular(Path(argument[1:]), 4 * LONGEST).decode("utf-8")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise argparse.ArgumentTypeError(f"cannot read {argument[1:]} ({reason}); name a file of UTF-8 text") from None
