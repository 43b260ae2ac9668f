"""What a generation option is: the range of its values, how they are checked, its flag, and its JSON type.

`GenerationConfig` states each option once, as a field made by `option`; whatever else needs to know about options (the
command line, docs/options.md, a server) reads the fields. Knows nothing about any particular option.
"""

from __future__ import annotations

import argparse
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentTypeError, ConfigError
from ..wording import shortened

__all__ = [
    "Boolean",
    "BooleanOr",
    "Choice",
    "Integer",
    "Kind",
    "Option",
    "Real",
    "Strings",
    "TokenIds",
    "option",
    "options",
]


class Kind(ABC):
    """The values that an option may have."""

    @abstractmethod
    def check(self, name: str, value: object) -> object:
        """The value of option ``name`` in its stored form, of Python's own types.

        Raises ArgumentTypeError for a wrong type, ConfigError for a value out of range.
        """

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the values (https://json-schema.org), null left out."""

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `argparse.ArgumentParser.add_argument` for a flag with such values."""


@dataclass(frozen=True)
class Integer(Kind):
    """An integer of at least ``least``, and at most ``most`` where there is a limit."""

    least: int
    remedy: str
    most: int | None = None

    def check(self, name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise ArgumentTypeError(f"{name}={_shown(value)} must be an integer, not {_type(value)}: {self.remedy}.")
        if value < self.least:
            raise ConfigError(f"{name}={_shown(value)} must be at least {self.least}: {self.remedy}.")
        if self.most is not None and value > self.most:
            raise ConfigError(f"{name}={_shown(value)} must be at most {self.most}: {self.remedy}.")
        return int(value)

    def json_schema(self) -> dict[str, Any]:
        most = {} if self.most is None else {"maximum": self.most}
        return {"type": "integer", "minimum": self.least, **most}

    def arguments(self) -> dict[str, Any]:
        return {"type": int, "metavar": "N"}


@dataclass(frozen=True)
class Real(Kind):
    """A number from ``least`` to ``most``, both included."""

    least: float
    most: float
    remedy: str

    def check(self, name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise ArgumentTypeError(f"{name}={_shown(value)} must be a number, not {_type(value)}: {self.remedy}.")
        if not self.least <= value <= self.most:  # also refuses NaN
            raise ConfigError(
                f"{name}={_shown(value)} must lie between {self.least:g} and {self.most:g}: {self.remedy}."
            )
        return float(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.least, "maximum": self.most}

    def arguments(self) -> dict[str, Any]:
        return {"type": float, "metavar": "X"}


@dataclass(frozen=True)
class Boolean(Kind):
    """True or False."""

    def check(self, name: str, value: object) -> bool:
        if not isinstance(value, (bool, np.bool_)):
            raise ArgumentTypeError(f"{name}={_shown(value)} must be True or False, not {_type(value)}")
        return bool(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}

    def arguments(self) -> dict[str, Any]:
        return {"action": argparse.BooleanOptionalAction}


@dataclass(frozen=True)
class BooleanOr(Kind):
    """True, False, or one more word."""

    word: str

    def check(self, name: str, value: object) -> bool | str:
        if isinstance(value, (bool, np.bool_)):
            return bool(value)
        if not isinstance(value, str):
            raise ArgumentTypeError(f'{name}={_shown(value)} must be True, False or "{self.word}", not {_type(value)}')
        if value != self.word:
            raise ConfigError(f'{name}={_shown(value)} is not known: use True, False or "{self.word}".')
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, {"type": "string", "enum": [self.word]}]}

    def arguments(self) -> dict[str, Any]:
        words = {"true": True, "false": False}
        return {"type": lambda text: words.get(text, text), "metavar": f"true|false|{self.word}"}


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words."""

    choices: tuple[str, ...]

    def check(self, name: str, value: object) -> str:
        known = ", ".join(self.choices)
        if not isinstance(value, str):
            raise ArgumentTypeError(f"{name}={_shown(value)} must be a string, not {_type(value)}: use one of {known}.")
        if value not in self.choices:
            raise ConfigError(f"{name}={_shown(value)} is not known: use one of {known}.")
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.choices)}

    def arguments(self) -> dict[str, Any]:
        return {"choices": list(self.choices)}


@dataclass(frozen=True)
class Strings(Kind):
    """A string or a sequence of strings, none of them empty; stored as a tuple. ``empty`` says why none is."""

    empty: str = "which would end every text at once"

    def check(self, name: str, value: object) -> tuple[str, ...]:
        strings = () if value is None else (value,) if isinstance(value, str) else value
        if isinstance(strings, (bytes, bytearray)) or not isinstance(strings, Sequence):
            raise ArgumentTypeError(
                f"{name}={_shown(value)} must be a string or a sequence of strings, not {_type(value)}"
            )
        for string in strings:
            if not isinstance(string, str):
                raise ArgumentTypeError(f"{name} holds {_shown(string)}, which is not a string but {_type(string)}")
            if not string:
                raise ConfigError(f"{name} holds an empty string, {self.empty}: leave it out.")
        return tuple(strings)

    def json_schema(self) -> dict[str, Any]:
        string = {"type": "string", "minLength": 1}
        return {"anyOf": [string, {"type": "array", "items": string}]}

    def arguments(self) -> dict[str, Any]:
        return {"action": "append", "metavar": "TEXT"}


@dataclass(frozen=True)
class TokenIds(Kind):
    """A token id or a sequence of them; a sequence is stored as a tuple."""

    remedy: str

    def check(self, name: str, value: object) -> int | tuple[int, ...]:
        token = Integer(0, self.remedy)
        if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
            return token.check(name, value)
        if not value:
            raise ConfigError(f"{name}={_shown(value)} holds no id: {self.remedy}.")
        return tuple(token.check(name, each) for each in value)

    def json_schema(self) -> dict[str, Any]:
        token = {"type": "integer", "minimum": 0}
        return {"anyOf": [token, {"type": "array", "items": token, "minItems": 1}]}

    def arguments(self) -> dict[str, Any]:
        return {"action": "append", "type": int, "metavar": "ID"}


@dataclass(frozen=True)
class Option:
    """What there is to know about one option beside its name and its default.

    Attributes:
        kind: the values that it may have.
        help: one sentence for the command line and the documentation.
        flag: its flag on the command line.
        flag_help: what there is to know about the flag beside ``help``.
        required: whether it must have a value; None means off otherwise.
        neutral: for an option of sampling, the values at which it changes nothing, so that greedy decoding may carry
            them; empty for any other option.
    """

    kind: Kind
    help: str
    flag: str
    required: bool = False
    neutral: tuple[object, ...] = ()
    flag_help: str = ""

    def check(self, name: str, value: object) -> object:
        """The value in its stored form; raises what `Kind.check` does."""
        if value is None and not self.required:
            return None
        return self.kind.check(name, value)

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the option's values."""
        schema = self.kind.json_schema()
        described = schema if self.required else {"anyOf": [*schema.get("anyOf", [schema]), {"type": "null"}]}
        return {**described, "description": self.help}

    def add_flag(self, parser: argparse._ActionsContainer, name: str) -> argparse.Action:
        """Give a parser the flag, which stores the option's value under ``name``, and return it."""
        text = f"{self.help}{self.flag_help}".replace("%", "%%")
        return parser.add_argument(self.flag, dest=name, help=text, **self.kind.arguments())


def option(
    default: Any,
    kind: Kind,
    help: str,
    *,
    flag: str | None = None,
    required: bool = False,
    neutral: tuple[object, ...] = (),
    flag_help: str = "",
) -> Any:
    """A dataclass field that is an option; ``flag`` defaults to the field's name with dashes."""
    facts = {"kind": kind, "help": help, "flag": flag, "required": required, "neutral": neutral, "flag_help": flag_help}
    return dataclasses.field(default=default, metadata={"option": facts})


def options(config: type[Any]) -> Mapping[str, Option]:
    """The options of a dataclass whose fields were made by `option`, by name; its own before those of its bases."""
    inherited = {field.name for base in config.__bases__ if base is not object for field in dataclasses.fields(base)}
    found = {}
    for field in sorted(dataclasses.fields(config), key=lambda field: field.name in inherited):
        facts = dict(field.metadata["option"])
        facts["flag"] = facts["flag"] or "--" + field.name.replace("_", "-")
        found[field.name] = Option(**facts)
    return found


def _type(value: object) -> str:
    return type(value).__name__


def _shown(value: object) -> str:
    """A value for a message; numpy's numbers as Python writes them."""
    return shortened(value.item() if isinstance(value, np.generic) else value)
