"""Where an ONNX file keeps its tensors: a walk over the protobuf messages, without the onnx package.

onnxruntime refuses tensors outside the model's folder only in newer releases, so the runtime looks for itself.
Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["external_locations"]

# Message type: its fields that may lead to a tensor, and the type of each.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2  # fields of an entry


def external_locations(data: bytes) -> set[str]:
    """The file names under which the tensors of an ONNX model are stored outside of it.

    Raises ValueError when ``data`` is no well-formed protobuf message.
    """
    return set(_locations(memoryview(data), "model"))


def _locations(message: memoryview, kind: str) -> Iterator[str]:
    for field, content in _length_delimited(message):
        child = _FIELDS[kind].get(field)
        if child == "entry":
            entry = {name: bytes(value) for name, value in _length_delimited(content)}
            if entry.get(_KEY) == b"location":
                yield entry.get(_VALUE, b"").decode("utf-8")
        elif child:
            yield from _locations(content, child)


def _length_delimited(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the strings, bytes and messages in a message; numbers are passed over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire_type = tag & 7
        if wire_type == 0:
            _, at = _varint(message, at)
        elif wire_type in (1, 5):
            at += 8 if wire_type == 1 else 4
        elif wire_type == 2:
            length, start = _varint(message, at)
            at = start + length
            if at <= len(message):
                yield tag >> 3, message[start:at]
        else:
            raise ValueError(f"wire type {wire_type} is not one of protobuf's")
        if at > len(message):
            raise ValueError("a field ends after its message")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits per byte, lowest first, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        value |= (message[at] & 0x7F) << shift
        at += 1
        if message[at - 1] < 0x80:
            return value, at
    raise ValueError("a number is cut off or longer than ten bytes")
