"""A linear layer is one node."""

from __future__ import annotations

import onnx_ir as ir

from .. import names
from ..rewrite import Rewrite, add_node, name_of, nodes, producer, replace_uses

__all__ = ["FuseLinears"]


class FuseLinears(Rewrite):
    """MatMul(x, Transpose(W)) [+ bias] -> Gemm(x, W[, bias], transB=1), W [N, K] as torch stores it.

    Needs rows [M, K]: it runs after FlattenTokens.
    """

    def rewrite(self, graph: ir.Graph) -> int:
        count = 0
        for product in nodes(graph, "MatMul"):
            transpose = producer(product.inputs[1], "Transpose")
            if transpose is None:
                continue
            self._fuse(product, transpose)
            count += 1
        return count

    def _fuse(self, product: ir.Node, transpose: ir.Node) -> None:
        weight = transpose.inputs[0]
        bias, last = _bias_add(product)
        inputs = [product.inputs[0], weight, *([bias] if bias else [])]
        output = add_node(last, "Gemm", inputs, {"transB": 1}, name=names.linear(name_of(weight)))
        replace_uses(last.outputs[0], output)


def _bias_add(product: ir.Node) -> tuple[ir.Value | None, ir.Node]:
    """The bias that is added to a product and the node that adds it; (None, the product) without one."""
    uses = list(product.outputs[0].uses())
    if len(uses) == 1 and uses[0].node.op_type == "Add":
        add = uses[0].node
        other = add.inputs[1 - uses[0].idx]
        if other is not None and other.is_initializer():
            return other, add
    return None, product
