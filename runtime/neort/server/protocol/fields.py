"""A request as a dataclass whose fields say everything about themselves, once: kind, help, and what they map to.

From these follow the check of a request (`read`), its JSON Schema (`schema_of`), and docs/server-api.md.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ...wording import shortened
from .errors import RequestError
from .kinds import Bounds, Kind, Schema, refused

__all__ = ["Field", "Nested", "Unused", "fields_of", "read", "schema_of", "wire"]

Request = TypeVar("Request")


@dataclass(frozen=True)
class Field:
    """What there is to know about a field beside its name.

    Attributes:
        kind: the values that it may have; null is as good as leaving it out.
        help: what it does.
        option: the option of `neort.GenerationConfig` that has its value as it is.
        required: whether a request must have it.
    """

    kind: Kind
    help: str
    option: str | None = None
    required: bool = False


@dataclass(frozen=True)
class Unused:
    """A field that other servers know and that does nothing here.

    Attributes:
        reason: why, and what to use instead.
        values: the only ones that it may have, since any other would mean something; None: all.
    """

    reason: str
    values: tuple[object, ...] | None = None

    def check(self, name: str, value: object) -> None:
        """Raise RequestError for a value that would mean something."""
        allowed = self.values is None or any(_equal(each, value) for each in self.values)
        if value is not None and not allowed:
            raise refused(name, f"{name} is {shortened(value)}, which this server refuses: {self.reason}")

    def schema(self) -> Schema:
        """Its JSON Schema."""
        values = {} if self.values is None else {"enum": [None, *self.values]}
        told = "Ignored" if self.values is None else "Refused"
        return {**values, "description": f"{told}: {self.reason}."}


def wire(kind: Kind, help: str, *, option: str | None = None, required: bool = False, default: Any = None) -> Any:
    """A dataclass field of a request; see `Field`. ``default`` is its value in a request that does not have it."""
    metadata = {"wire": Field(kind, help, option, required)}
    return dataclasses.field(default=default, metadata=metadata)


def fields_of(request: type[Any]) -> Mapping[str, Field]:
    """The fields of a request, by name."""
    return {each.name: each.metadata["wire"] for each in dataclasses.fields(request)}


def read(request: type[Request], payload: object, bounds: Bounds, path: str = "") -> Request:
    """Make the request of a payload. Raises RequestError, which names the field, for what is none.

    The class may have ``UNUSED``, a mapping of names to `Unused`, and ``ELSEWHERE``, one of names to what to use
    instead.
    """
    if not isinstance(payload, dict):
        subject = path or "the body"
        raise RequestError(400, f"{subject} is {shortened(payload)}; it must be an object", param=path or None)
    fields, unused = fields_of(request), _unused(request)
    values = {}
    for name, value in payload.items():
        full = f"{path}.{name}" if path else name
        if name in unused:
            unused[name].check(full, value)
        elif name not in fields:
            raise _unknown(request, name, path)
        elif value is not None:
            values[name] = fields[name].kind.check(full, value, bounds)
    for name, field in fields.items():
        if field.required and name not in values:
            full = f"{path}.{name}" if path else name
            raise refused(full, f"{full} is missing; it is {field.help}")
    return request(**values)


def schema_of(request: type[Any], bounds: Bounds) -> Schema:
    """The JSON Schema of what `read` takes."""
    fields = fields_of(request)
    properties = {name: _schema(field, bounds) for name, field in fields.items()}
    properties |= {name: each.schema() for name, each in _unused(request).items()}
    required = [name for name, field in fields.items() if field.required]
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": required} if required else schema


@dataclass(frozen=True)
class Nested(Kind):
    """An object with fields of its own."""

    request: type[Any]

    def check(self, path: str, value: object, bounds: Bounds) -> Any:
        return read(self.request, value, bounds, path)

    def schema(self, bounds: Bounds) -> Schema:
        return schema_of(self.request, bounds)

    def accepts(self, value: object) -> bool:
        return isinstance(value, dict)


def _schema(field: Field, bounds: Bounds) -> Schema:
    schema = field.kind.schema(bounds)
    if not field.required:
        schema = {"anyOf": [*(schema["anyOf"] if schema.keys() == {"anyOf"} else [schema]), {"type": "null"}]}
    return {**schema, "description": f"{field.help[0].upper()}{field.help[1:]}."}


def _equal(one: object, other: object) -> bool:
    """Whether two values are the same JSON: 1 is 1.0, and no true."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _unused(request: type[Any]) -> Mapping[str, Unused]:
    unused: Mapping[str, Unused] = getattr(request, "UNUSED", {})
    return unused


def _unknown(request: type[Any], name: str, path: str) -> RequestError:
    full = shortened(f"{path}.{name}" if path else name)
    elsewhere: Mapping[str, str] = getattr(request, "ELSEWHERE", {})
    known = [*fields_of(request)]
    if name in elsewhere:
        remedy = elsewhere[name]
    elif close := difflib.get_close_matches(name[:100], known, n=1):
        remedy = f"did you mean {close[0]}?"
    else:
        remedy = f"known are {', '.join(known)}" if len(known) < 10 else "see docs/server-api.md for those it knows"
    return RequestError(400, f"{full} is no field of this request; {remedy}", param=name[:100], code="unknown_field")
