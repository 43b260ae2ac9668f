"""Heads of a width that onnxruntime does not take are filled up with zeros."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...architectures import Dimensions
from ...quantization.tensors import LazyTensor, padded_columns, padded_rows
from .. import names
from ..rewrite import Rewrite, constant, nodes, producer, weight_of

__all__ = ["PadHeads"]

PACKED = 3  # query, key and value


class PadHeads(Rewrite):
    """Heads of D channels -> heads of D' channels, D' the next multiple of 8, the last D' - D of them zero.

    Each head of the packed q/k/v product gets rows of zeros, in the bias too, and the output projection columns of
    zeros. Zeros add nothing to a score, whose factor stays that of D, and a value of zero stays zero: the layer
    computes the same. Where D is a multiple of 8 nothing changes. Needs linear layers of one node: it runs after
    FuseLinears.
    """

    def __init__(self, dimensions: Dimensions) -> None:
        super().__init__()
        self.head_dim, self.stored = dimensions.head_dim, dimensions.stored_head_dim
        self.width = dimensions.num_heads * self.stored
        self.at_least = int(self.stored > self.head_dim)

    def rewrite(self, graph: ir.Graph) -> int:
        found = list(nodes(graph, "GroupQueryAttention")) if self.at_least else []
        for attention in found:
            self._pad(graph, attention)
        if found:
            width = graph.initializers[names.QKV_WIDTH]
            width.const_value = ir.tensor(np.array([PACKED * self.width], np.int64), name=width.name)
        return len(found)

    def _pad(self, graph: ir.Graph, attention: ir.Node) -> None:
        by_sequence = producer(attention.inputs[0], "Reshape")
        packed = producer(by_sequence.inputs[0], "Gemm") if by_sequence else None
        flat = next(iter(attention.outputs[0].uses())).node
        projection = next(use.node for use in flat.outputs[0].uses() if use.node.op_type == "Gemm")
        assert packed is not None  # FlattenTokens and FuseLinears have made these
        for value in packed.inputs[1:]:
            _replace(value, padded_rows(weight_of(value), self.head_dim, self.stored))
        weight = projection.inputs[1]
        _replace(weight, padded_columns(weight_of(weight), self.head_dim, self.stored))
        flat.replace_input_with(1, constant(graph, names.ATTENDED_SHAPE, np.array([-1, self.width], np.int64)))


def _replace(value: ir.Value | None, tensor: LazyTensor) -> None:
    """Give an initializer other values under its name."""
    assert value is not None  # it has a weight
    tensor.name = value.name
    value.const_value = tensor
    value.shape = ir.Shape(tensor.dims)
