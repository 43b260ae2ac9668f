"""The three products for query, key and value become one."""

from __future__ import annotations

import onnx_ir as ir

from ...quantization.tensors import stacked
from ..rewrite import Rewrite, add_initializer, add_node, name_of, nodes, producer, weight_of

__all__ = ["PackQKV"]


class PackQKV(Rewrite):
    """GroupQueryAttention(x Wq', x Wk', x Wv', ...) -> GroupQueryAttention(x [Wq; Wk; Wv]', , , ...).

    One product of three times the width keeps all cores busy, and its input is quantized once.
    """

    def rewrite(self, graph: ir.Graph) -> int:
        packed = [self._pack(graph, attention) for attention in nodes(graph, "GroupQueryAttention")]
        return sum(packed)

    def _pack(self, graph: ir.Graph, attention: ir.Node) -> bool:
        products = [producer(value, "MatMul") for value in attention.inputs[:3]]
        transposes = [producer(p.inputs[1], "Transpose") if p else None for p in products]
        if not all(transposes) or len({id(p.inputs[0]) for p in products if p}) != 1:
            return False
        weights = [t.inputs[0] for t in transposes if t]
        x = next(p.inputs[0] for p in products if p)
        name = name_of(weights[0]).replace("q_proj", "qkv_proj")
        weight = add_initializer(graph, name, stacked([weight_of(w) for w in weights]))
        transposed = add_node(attention, "Transpose", [weight], name=f"{name}/transposed")
        query = add_node(attention, "MatMul", [x, transposed], name=name.removesuffix(".weight"))
        for i, value in enumerate([query, None, None]):
            attention.replace_input_with(i, value)
        return True
