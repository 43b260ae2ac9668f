"""ONNX models of one matrix product, as bytes: protobuf written by hand, since the runtime has no onnx.

Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..arrays import AnyArray

__all__ = ["product_model"]

IR_VERSION, OPSET, OWN_OPSET = 8, 17, 1
OWN_DOMAIN = "com.microsoft"
ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}


def product_model(
    operator: str, x: AnyArray, weights: Mapping[str, AnyArray], output_type: str, **attributes: int
) -> bytes:
    """The model ``y = operator(x, *weights)`` with constant weights and an input of ``x``'s type and shape.

    An operator with attributes is one of onnxruntime's own.
    """
    domain = OWN_DOMAIN if attributes else ""
    node = b"".join(_text(1, name) for name in ("x", *weights)) + _text(2, "y") + _text(4, operator) + _text(7, domain)
    node += b"".join(
        _message(5, _text(1, name) + _number(3, value) + _number(20, 2)) for name, value in attributes.items()
    )
    graph = _message(1, node) + _text(2, "product")
    graph += b"".join(_message(5, _tensor(name, array)) for name, array in weights.items())
    graph += _message(11, _value("x", x.dtype.name, x.shape)) + _message(12, _value("y", output_type, None))
    opsets = _message(8, _number(2, OPSET)) + _message(8, _text(1, OWN_DOMAIN) + _number(2, OWN_OPSET))
    return _number(1, IR_VERSION) + _message(7, graph) + opsets


def _tensor(name: str, array: AnyArray) -> bytes:
    dimensions = b"".join(_number(1, size) for size in array.shape)
    raw = np.ascontiguousarray(array).tobytes()
    return dimensions + _number(2, ELEMENT_TYPES[array.dtype.name]) + _text(8, name) + _message(9, raw)


def _value(name: str, dtype: str, shape: tuple[int, ...] | None) -> bytes:
    kind = _number(1, ELEMENT_TYPES[dtype])
    if shape is not None:
        kind += _message(2, b"".join(_message(1, _number(1, size)) for size in shape))
    return _text(1, name) + _message(2, _message(1, kind))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
