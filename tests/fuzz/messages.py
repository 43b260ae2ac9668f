"""Ways to damage a protobuf message so that it stays one: lengths are right again after each change.

ONNX models are read as trees of fields, with the numbers of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mutations import Mutation

__all__ = ["MESSAGES"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SIZES = {FIXED64: 8, FIXED32: 4}

# Message type: its fields that hold messages, and the type of each.
MESSAGE_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph"},
    "tensor": {13: "entry"},
    "value": {2: "type"},
    "type": {1: "tensor_type"},
    "tensor_type": {2: "shape"},
    "shape": {1: "dimension"},
    "opset": {},
    "entry": {},
    "dimension": {},
}
NUMBERS = (0, 1, 2, 7, 16, 127, 128, 255, 1 << 15, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
NAMES = (b"", b"logits", b"input_ids", b"present.0.key", b"weights.data", b"\xff\xfe", b"\0", b"x" * 70_000, b"../x")


@dataclass
class Field:
    """One field: a number (``value`` of wire type 0), bytes, or the fields of a message (``children``)."""

    number: int
    wire_type: int
    value: int = 0
    content: bytes = b""
    children: list[Field] | None = None


def _parse(data: bytes, kind: str) -> list[Field]:
    """The fields of a message. Raises ValueError or IndexError where it is none."""
    fields, at = [], 0
    while at < len(data):
        tag, at = _read(data, at)
        field = Field(tag >> 3, tag & 7)
        if field.wire_type == VARINT:
            field.value, at = _read(data, at)
        elif field.wire_type == BYTES:
            length, at = _read(data, at)
            field.content, at = data[at : at + length], at + length
            if child := MESSAGE_FIELDS[kind].get(field.number):
                field.children = _parse(field.content, child)
        else:
            size = SIZES.get(field.wire_type, 0)
            if not size:
                raise ValueError(f"wire type {field.wire_type}")
            field.content, at = data[at : at + size], at + size
        fields.append(field)
    if at != len(data):
        raise ValueError("a field ends after its message")
    return fields


def _read(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _encode(fields: list[Field]) -> bytes:
    parts = []
    for field in fields:
        parts.append(_number(field.number << 3 | field.wire_type))
        if field.wire_type == VARINT:
            parts.append(_number(field.value & (1 << 64) - 1))
        else:
            content = field.content if field.children is None else _encode(field.children)
            parts += [_number(len(content)), content] if field.wire_type == BYTES else [content]
    return b"".join(parts)


def _lists(fields: list[Field]) -> Iterator[list[Field]]:
    """The list of fields of every message in the tree, the outermost first."""
    yield fields
    for field in fields:
        if field.children is not None:
            yield from _lists(field.children)


def _mutation(change: Callable[[list[Field], Field, random.Random], None], wire_type: int | None = None) -> Mutation:
    """A mutation of one field (of a wire type) anywhere in a model; ``change`` gets its message's fields and itself.

    Messages of all depths are equally likely, and then their fields.
    """

    def mutation(contents: bytes, chance: random.Random) -> bytes:
        try:
            model = _parse(contents, "model")
        except (ValueError, IndexError, RecursionError):
            return contents
        places = [(fields, field) for fields in _lists(model) for field in fields]
        places = [place for place in places if wire_type is None or place[1].wire_type == wire_type]
        if not places:
            return contents
        change(*chance.choice(places), chance)
        return _encode(model)

    return mutation


def _other_number(fields: list[Field], field: Field, chance: random.Random) -> None:
    near = (field.value + 1, max(0, field.value - 1), field.value * 2, field.value // 2, field.value ^ 1)
    field.value = chance.choice((*NUMBERS, *near, *near))


def _other_bytes(fields: list[Field], field: Field, chance: random.Random) -> None:
    content = field.content if field.children is None else _encode(field.children)
    field.children = None
    flipped = bytearray(content)
    if flipped:
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    field.content = chance.choice((*NAMES, bytes(flipped), bytes(flipped), content[:-1], content + b"1", content * 2))


def _other_field(fields: list[Field], field: Field, chance: random.Random) -> None:
    field.number = chance.choice((chance.randint(1, 30), (1 << 29) - 1, field.number ^ 1 or 1))


def _other_type(fields: list[Field], field: Field, chance: random.Random) -> None:
    content = field.content if field.children is None else _encode(field.children)
    field.wire_type = chance.choice((VARINT, FIXED64, BYTES, FIXED32))
    field.content = content if field.wire_type == BYTES else (content + bytes(8))[: SIZES.get(field.wire_type, 8)]
    field.children = None


def _gone(fields: list[Field], field: Field, chance: random.Random) -> None:
    fields[:] = [other for other in fields if other is not field]


def _twice(fields: list[Field], field: Field, chance: random.Random) -> None:
    fields.insert(chance.randrange(len(fields) + 1), field)


def _swapped(fields: list[Field], field: Field, chance: random.Random) -> None:
    """The field changes places with another one of its message, contents and all but for the number."""
    other = chance.choice(fields)
    field.number, other.number = other.number, field.number


def _reordered(fields: list[Field], field: Field, chance: random.Random) -> None:
    chance.shuffle(fields)


MESSAGES: dict[str, Mutation] = {
    "number of a field": _mutation(_other_number, VARINT),
    "bytes of a field": _mutation(_other_bytes, BYTES),
    "other field": _mutation(_other_field),
    "other wire type": _mutation(_other_type),
    "field removed": _mutation(_gone),
    "field twice": _mutation(_twice),
    "fields swapped": _mutation(_swapped),
    "fields reordered": _mutation(_reordered),
}
