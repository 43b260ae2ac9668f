"""The kinds of values that a field may have: each checks a value, and describes itself as JSON Schema.

Both say the same: what fits the schema passes the check. A bound may be a name, which stands for a number that a server
decides on: its limits, and what its models allow.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...wording import shortened
from .errors import RequestError

__all__ = [
    "AnyValue",
    "Array",
    "Bias",
    "Boolean",
    "Bound",
    "Bounds",
    "Choice",
    "Integer",
    "Kind",
    "Number",
    "OneOf",
    "Schema",
    "Text",
    "refused",
]

Bound = int | str
Bounds = Mapping[str, int]
Schema = dict[str, Any]


def refused(path: str, message: str) -> RequestError:
    """A request that a field makes impossible."""
    return RequestError(400, message, param=path)


def is_integer(value: object) -> bool:
    """Whether a value is an integer as JSON Schema has it: 2.0 is one, and true is none."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


class Kind(ABC):
    """Values of one kind."""

    @abstractmethod
    def check(self, path: str, value: object, bounds: Bounds) -> Any:
        """The value as Python has it. Raises RequestError, which names ``path``, for one of another kind."""

    @abstractmethod
    def schema(self, bounds: Bounds) -> Schema:
        """The JSON Schema of the values; null is none of them."""

    def accepts(self, value: object) -> bool:
        """Whether a value has the type, by its outside, so that of several kinds the right one may complain."""
        return True


@dataclass(frozen=True)
class Integer(Kind):
    """An integer within bounds, both included."""

    least: Bound | None = None
    most: Bound | None = None

    def check(self, path: str, value: object, bounds: Bounds) -> int:
        if not is_integer(value):
            raise refused(path, f"{path} is {shortened(value)}; it must be an integer{self._range(bounds)}")
        number = int(value)  # type: ignore[call-overload]
        least, most = resolved(self.least, bounds), resolved(self.most, bounds)
        if (least is not None and number < least) or (most is not None and number > most):
            raise refused(path, f"{path} is {shortened(number)}; it must be an integer{self._range(bounds)}")
        return int(number)

    def schema(self, bounds: Bounds) -> Schema:
        least, most = resolved(self.least, bounds), resolved(self.most, bounds)
        minimum = {} if least is None else {"minimum": least}
        return {"type": "integer", **minimum, **({} if most is None else {"maximum": most})}

    def accepts(self, value: object) -> bool:
        return is_integer(value)

    def check_all(self, path: str, values: list[Any], bounds: Bounds) -> list[int]:
        """As `check`, for each of what may be millions: a body's worth of token ids."""
        least, most = resolved(self.least, bounds), resolved(self.most, bounds)
        low, high = (-math.inf if least is None else least), (math.inf if most is None else most)
        numbers = []
        for i, value in enumerate(values):
            number = int(value) if type(value) is float and value.is_integer() else value
            if type(number) is not int or not low <= number <= high:
                number = self.check(f"{path}[{i}]", value, bounds)
            numbers.append(number)
        return numbers

    def _range(self, bounds: Bounds) -> str:
        least, most = resolved(self.least, bounds), resolved(self.most, bounds)
        if most is None:
            return "" if least is None else f" of at least {least}"
        return f" from {least} to {most}"


@dataclass(frozen=True)
class Number(Kind):
    """A number within bounds, both included."""

    least: float
    most: float

    def check(self, path: str, value: object, bounds: Bounds) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not self.least <= value <= self.most:  # type: ignore[operator]
            told = shortened(value)
            raise refused(path, f"{path} is {told}; it must be a number from {self.least:g} to {self.most:g}")
        return float(value)  # type: ignore[arg-type]

    def schema(self, bounds: Bounds) -> Schema:
        return {"type": "number", "minimum": self.least, "maximum": self.most}

    def accepts(self, value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Boolean(Kind):
    """True or false."""

    def check(self, path: str, value: object, bounds: Bounds) -> bool:
        if not isinstance(value, bool):
            raise refused(path, f"{path} is {shortened(value)}; it must be true or false")
        return value

    def schema(self, bounds: Bounds) -> Schema:
        return {"type": "boolean"}

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Text(Kind):
    """A string; one that is not ``empty`` has a character at least, and ``pattern`` fits it as a whole."""

    empty: bool = True
    pattern: str | None = None
    longest: int | None = None

    def check(self, path: str, value: object, bounds: Bounds) -> str:
        if not isinstance(value, str):
            raise refused(path, f"{path} is {shortened(value)}; it must be a string")
        if not value and not self.empty:
            raise refused(path, f"{path} is an empty string; it must have a character at least")
        if self.longest is not None and len(value) > self.longest:
            raise refused(path, f"{path} has {len(value)} characters; at most {self.longest} are allowed")
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            raise refused(path, f"{path} is {shortened(value)}; it must fit {self.pattern}")
        return value

    def schema(self, bounds: Bounds) -> Schema:
        least = {} if self.empty else {"minLength": 1}
        most = {} if self.longest is None else {"maxLength": self.longest}
        pattern = {} if self.pattern is None else {"pattern": f"^(?:{self.pattern})$"}
        return {"type": "string", **least, **most, **pattern}

    def accepts(self, value: object) -> bool:
        return isinstance(value, str)


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words."""

    words: tuple[str, ...]

    def check(self, path: str, value: object, bounds: Bounds) -> str:
        if not isinstance(value, str) or value not in self.words:
            known = f"{'one of ' if len(self.words) > 1 else ''}{', '.join(self.words)}"
            raise refused(path, f"{path} is {shortened(value)}; it must be {known}")
        return value

    def schema(self, bounds: Bounds) -> Schema:
        return {"type": "string", "enum": list(self.words)}

    def accepts(self, value: object) -> bool:
        return isinstance(value, str)


@dataclass(frozen=True)
class Array(Kind):
    """A list of values of one kind."""

    items: Kind
    least: int = 0
    most: Bound | None = None

    def check(self, path: str, value: object, bounds: Bounds) -> list[Any]:
        if not isinstance(value, list):
            raise refused(path, f"{path} is {shortened(value)}; it must be a list")
        most = resolved(self.most, bounds)
        if len(value) < self.least or (most is not None and len(value) > most):
            up_to = "" if most is None else f" and at most {most}"
            raise refused(path, f"{path} has {len(value)} entries; it must have at least {self.least}{up_to}")
        if isinstance(self.items, Integer):
            return self.items.check_all(path, value, bounds)
        return [self.items.check(f"{path}[{i}]", each, bounds) for i, each in enumerate(value)]

    def schema(self, bounds: Bounds) -> Schema:
        most = resolved(self.most, bounds)
        least = {"minItems": self.least} if self.least else {}
        return {"type": "array", "items": self.items.schema(bounds), **least, **({"maxItems": most} if most else {})}

    def accepts(self, value: object) -> bool:
        """By the first entry, of which all are the like."""
        return isinstance(value, list) and (not value or self.items.accepts(value[0]))


@dataclass(frozen=True)
class OneOf(Kind):
    """A value of one of several kinds; ``told`` says in words which there are."""

    kinds: tuple[Kind, ...]
    told: str

    def check(self, path: str, value: object, bounds: Bounds) -> Any:
        for kind in self.kinds:
            if kind.accepts(value):
                return kind.check(path, value, bounds)
        raise refused(path, f"{path} is {shortened(value)}; it must be {self.told}")

    def schema(self, bounds: Bounds) -> Schema:
        return {"anyOf": [kind.schema(bounds) for kind in self.kinds]}

    def accepts(self, value: object) -> bool:
        return any(kind.accepts(value) for kind in self.kinds)


@dataclass(frozen=True)
class Bias(Kind):
    """A bias for each of some token ids, which are names of a JSON object and hence strings."""

    def check(self, path: str, value: object, bounds: Bounds) -> dict[int, float]:
        if not isinstance(value, dict):
            raise refused(path, f'{path} is {shortened(value)}; it must be an object like {{"50256": -100}}')
        if len(value) > 1024:
            raise refused(path, f"{path} has {len(value)} entries; at most 1024 are allowed")
        biases = {}
        for key, bias in value.items():
            if not re.fullmatch("0|[1-9][0-9]{0,8}", key):
                raise refused(path, f"{path} has the name {shortened(key)}; it must be a token id, 0 or above")
            biases[int(key)] = Number(-100.0, 100.0).check(f"{path}.{key}", bias, bounds)
        return biases

    def schema(self, bounds: Bounds) -> Schema:
        return {
            "type": "object",
            "propertyNames": {"pattern": "^(?:0|[1-9][0-9]{0,8})$"},
            "additionalProperties": Number(-100.0, 100.0).schema(bounds),
            "maxProperties": 1024,
        }

    def accepts(self, value: object) -> bool:
        return isinstance(value, dict)


@dataclass(frozen=True)
class AnyValue(Kind):
    """Any value at all, or any object."""

    object_only: bool = False

    def check(self, path: str, value: object, bounds: Bounds) -> Any:
        if not self.accepts(value):
            raise refused(path, f"{path} is {shortened(value)}; it must be an object")
        return value

    def schema(self, bounds: Bounds) -> Schema:
        return {"type": "object"} if self.object_only else {}

    def accepts(self, value: object) -> bool:
        return isinstance(value, dict) or not self.object_only


def resolved(bound: Bound | None, bounds: Bounds) -> int | None:
    """The number that a bound stands for."""
    return bounds.get(bound) if isinstance(bound, str) else bound
