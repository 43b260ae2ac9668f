"""Kinds of options that hold several numbers: lists of token ids, lists of lists, biases, a start with a factor.

Each is stored as tuples, which are hashable and come back from JSON as they went in. Its flag takes JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentTypeError, ConfigError
from ..wording import shortened
from .options import Integer, Kind, Real

__all__ = ["Biases", "Composite", "IdList", "IdLists", "SequenceBiases", "StartAndFactor"]

TOKEN = Integer(0, "token ids begin at 0")
BIAS = Real(-1e9, 1e9, "use bad_words_ids or suppress_tokens to rule tokens out")
START = Integer(0, "use the number of new tokens after which the penalty begins")
FACTOR = Real(1e-6, 1e6, "use a factor above 1 for shorter texts")


class Composite(Kind):
    """A value of several parts; its flag takes JSON."""

    example: str

    def arguments(self) -> dict[str, Any]:
        return {"type": _json, "metavar": "JSON"}

    def _sequence(self, name: str, value: object) -> Sequence[Any]:
        if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
            raise ArgumentTypeError(
                f"{name}={shortened(value)} must be like {self.example}, and is {type(value).__name__}: use that form, "
                "or None."
            )
        if not value:
            raise ConfigError(f"{name}={shortened(value)} is empty: use None to leave it off.")
        return value

    def _pair(self, name: str, value: object) -> tuple[Any, Any]:
        pair = self._sequence(name, value)
        if len(pair) != 2:
            raise ConfigError(f"{name} holds {shortened(value)}, which is no pair: use the form {self.example}.")
        return pair[0], pair[1]


@dataclass(frozen=True)
class IdList(Composite):
    """A sequence of token ids."""

    example = "[11, 13]"

    def check(self, name: str, value: object) -> tuple[int, ...]:
        return tuple(TOKEN.check(name, each) for each in self._sequence(name, value))

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": TOKEN.json_schema(), "minItems": 1}

    def arguments(self) -> dict[str, Any]:
        return {"action": "append", "type": int, "metavar": "ID"}


@dataclass(frozen=True)
class IdLists(Composite):
    """A sequence of sequences of token ids."""

    example = "[[11], [13, 14]]"

    def check(self, name: str, value: object) -> tuple[tuple[int, ...], ...]:
        return tuple(_ids(self, name, each) for each in self._sequence(name, value))

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": IdList().json_schema(), "minItems": 1}


@dataclass(frozen=True)
class Biases(Composite):
    """A bias for each of some token ids: a mapping, whose keys may be strings as JSON has them, or pairs."""

    example = '{"11": -2.0}'

    def check(self, name: str, value: object) -> tuple[tuple[int, float], ...]:
        pairs = value.items() if isinstance(value, Mapping) else self._sequence(name, value)
        biases = {}
        for each in pairs:
            token, bias = self._pair(name, each)
            biases[TOKEN.check(name, _number(token))] = BIAS.check(name, bias)
        if not biases:
            raise ConfigError(f"{name}={shortened(value)} is empty: use None to leave it off.")
        return tuple(biases.items())

    def json_schema(self) -> dict[str, Any]:
        pair = {"type": "array", "prefixItems": [TOKEN.json_schema(), BIAS.json_schema()], "minItems": 2, "maxItems": 2}
        mapping = {
            "type": "object",
            "propertyNames": {"pattern": "^[0-9]+$"},
            "additionalProperties": BIAS.json_schema(),
            "minProperties": 1,
        }
        return {"anyOf": [mapping, {"type": "array", "items": pair, "minItems": 1}]}


@dataclass(frozen=True)
class SequenceBiases(Composite):
    """A bias for each of some sequences of token ids: a mapping with tuples as keys, or pairs."""

    example = "[[[11, 13], -2.0]]"

    def check(self, name: str, value: object) -> tuple[tuple[tuple[int, ...], float], ...]:
        pairs = list(value.items()) if isinstance(value, Mapping) else value
        biases = {}
        for each in self._sequence(name, pairs):
            tokens, bias = self._pair(name, each)
            biases[_ids(self, name, tokens)] = BIAS.check(name, bias)
        return tuple(biases.items())

    def json_schema(self) -> dict[str, Any]:
        items = [IdList().json_schema(), BIAS.json_schema()]
        pair = {"type": "array", "prefixItems": items, "minItems": 2, "maxItems": 2}
        return {"type": "array", "items": pair, "minItems": 1}


@dataclass(frozen=True)
class StartAndFactor(Composite):
    """A number of tokens and a factor."""

    example = "[20, 1.05]"

    def check(self, name: str, value: object) -> tuple[int, float]:
        start, factor = self._pair(name, value)
        return START.check(name, start), FACTOR.check(name, factor)

    def json_schema(self) -> dict[str, Any]:
        items = [START.json_schema(), FACTOR.json_schema()]
        return {"type": "array", "prefixItems": items, "minItems": 2, "maxItems": 2}


def _ids(kind: Composite, name: str, value: object) -> tuple[int, ...]:
    return tuple(TOKEN.check(name, each) for each in kind._sequence(name, value))


def _number(key: object) -> object:
    """A key of a JSON object as the token id that it is."""
    return int(key) if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 20 else key


def _json(text: str) -> object:
    """A flag's value. Raises argparse.ArgumentTypeError for what is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no JSON ({error})") from None
