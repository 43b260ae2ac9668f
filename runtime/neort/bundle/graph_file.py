"""What an ONNX file says, read from its protobuf messages without the onnx package.

Where tensors lie, since onnxruntime refuses those outside of the model's folder only in newer releases; and the facts
that the manifest has, too, with which it is compared. Field numbers are those of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from .protobuf import as_bytes, as_integer, as_text, fields, packed_integers

__all__ = ["Graph", "Node", "Tensor", "Value", "external_locations", "read_graph"]

# Message type: its fields that may lead to a tensor, and the type of each.
_PATHS: dict[str, dict[int, str]] = {
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
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 21: 4, 22: 4}


@dataclass(frozen=True)
class Value:
    """An input or output: its element type by ONNX's number, and its shape; None for an axis of any length.

    ``shape`` is None where the graph states none.
    """

    element_type: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Tensor:
    """A constant: its element type by ONNX's number, its shape, and where it lies if outside of the graph.

    ``offset`` and ``length`` count bytes of the file ``location``; None for a length that is not stated.
    ``data`` are the bytes of one that lies within the graph.
    """

    element_type: int
    shape: tuple[int, ...]
    location: str | None
    offset: int
    length: int | None
    data: bytes = b""

    @property
    def nbytes(self) -> int | None:
        """Bytes that it takes; None for types that no bundle has."""
        bits = _BITS.get(self.element_type)
        return None if bits is None else -(-math.prod(self.shape) * bits // 8)


@dataclass(frozen=True)
class Node:
    """An operation, with those of its attributes that are whole numbers."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    integers: dict[str, int]


@dataclass
class Graph:
    """A model's main graph.

    ``nested`` says whether anything is computed elsewhere, in functions or in graphs of nodes; ``locations`` are the
    names of the files that tensors lie in, wherever these stand.
    """

    inputs: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    nested: bool = False
    locations: set[str] = field(default_factory=set)


def external_locations(data: bytes) -> set[str]:
    """The file names under which the tensors of an ONNX model are stored outside of it.

    Raises ValueError when ``data`` is no well-formed protobuf message.
    """
    return set(_locations(data, "model"))


def read_graph(data: bytes) -> Graph:
    """The main graph of an ONNX model. Raises ValueError when ``data`` is no well-formed protobuf message."""
    graph = Graph()
    for number, content in fields(data):
        if number == 7:
            _read_main(as_bytes(content), graph)
        elif child := _PATHS["model"].get(number):
            graph.nested = True
            graph.locations.update(_locations(as_bytes(content), child))
    return graph


def _read_main(message: bytes, graph: Graph) -> None:
    for number, content in fields(message):
        if number == 1:
            graph.nodes.append(_node(as_bytes(content), graph))
        elif number == 5:
            name, tensor = _tensor(as_bytes(content))
            graph.tensors[name] = tensor
            if tensor.location is not None:
                graph.locations.add(tensor.location)
        elif number in (11, 12):
            name, value = _value(as_bytes(content))
            (graph.inputs if number == 11 else graph.outputs)[name] = value
        elif number == 15:
            graph.locations.update(_locations(as_bytes(content), "sparse"))


def _node(message: bytes, graph: Graph) -> Node:
    """A node; what its attributes hold besides numbers goes to the graph."""
    inputs, outputs, operator = [], [], ""
    integers: dict[str, int] = {}
    for number, content in fields(message):
        if number == 1:
            inputs.append(as_text(content))
        elif number == 2:
            outputs.append(as_text(content))
        elif number == 4:
            operator = as_text(content)
        elif number == 5:
            attribute = dict(fields(as_bytes(content)))
            if 3 in attribute:
                integers[as_text(attribute.get(1, b""))] = as_integer(attribute[3])
            if _PATHS["attribute"].keys() & attribute.keys():
                graph.nested = graph.nested or 6 in attribute or 11 in attribute
                graph.locations.update(_locations(as_bytes(content), "attribute"))
    return Node(operator, tuple(inputs), tuple(outputs), integers)


def _tensor(message: bytes) -> tuple[str, Tensor]:
    """A constant's name and facts."""
    name, element_type, data = "", 0, b""
    shape: list[int] = []
    entries: dict[str, str] = {}
    for number, content in fields(message):
        if number == 1:
            shape += packed_integers(content)
        elif number == 2:
            element_type = as_integer(content)
        elif number == 8:
            name = as_text(content)
        elif number == 9:
            data = as_bytes(content)
        elif number == 13:
            entry = dict(fields(as_bytes(content)))
            entries[as_text(entry.get(_KEY, b""))] = as_text(entry.get(_VALUE, b""))
    offset, length = _decimal(entries.get("offset")), _decimal(entries.get("length"))
    return name, Tensor(element_type, tuple(shape), entries.get("location"), offset or 0, length, data)


def _value(message: bytes) -> tuple[str, Value]:
    """An input's or output's name and facts. The type is a tensor's; of any other kind nothing is known."""
    parts = dict(fields(message))
    tensor_type = dict(fields(as_bytes(dict(fields(as_bytes(parts.get(2, b"")))).get(1, b""))))
    shape = tensor_type.get(2)
    axes = None if shape is None else tuple(_axis(as_bytes(axis)) for _, axis in fields(as_bytes(shape)))
    return as_text(parts.get(1, b"")), Value(as_integer(tensor_type.get(1, 0)), axes)


def _axis(message: bytes) -> int | None:
    length = dict(fields(message)).get(1)
    return None if length is None else as_integer(length)


def _decimal(text: str | None) -> int | None:
    """A number that is written in decimal digits. Raises ValueError for anything else."""
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise ValueError("the offset or the length of a tensor is no number")
    return int(text)


def _locations(message: bytes, kind: str) -> Iterator[str]:
    for number, content in fields(message):
        child = _PATHS[kind].get(number)
        if child == "entry":
            entry = dict(fields(as_bytes(content)))
            if entry.get(_KEY) == b"location":
                yield as_text(entry.get(_VALUE, b""))
        elif child:
            yield from _locations(as_bytes(content), child)
