"""ONNX models of matrix products, as bytes."""

from __future__ import annotations

from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["block_product", "model_bytes", "product"]


def product(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    """A node of one of onnxruntime's own operators, or of ONNX's MatMul and MatMulInteger."""
    domain = "" if operator in ("MatMul", "MatMulInteger") else "com.microsoft"
    return helper.make_node(operator, inputs, [output], domain=domain, **attributes)


def block_product(
    inputs: list[str], output: str, *, inner: int, columns: int, bits: int, block_size: int
) -> onnx.NodeProto:
    """MatMulNBits of [rows, ``inner``] with ``columns`` output channels in blocks; activations are int8."""
    attributes = {"K": inner, "N": columns, "bits": bits, "block_size": block_size, "accuracy_level": 4}
    return product("MatMulNBits", inputs, output, **attributes)


def model_bytes(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    output_type: int,
    weights: dict[str, NDArray[Any]],
) -> bytes:
    """A model of these nodes and constant weights; what each node yields is an output of ``output_type``."""
    graph = helper.make_graph(
        nodes,
        "products",
        inputs,
        [helper.make_tensor_value_info(name, output_type, None) for node in nodes for name in node.output],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return model
