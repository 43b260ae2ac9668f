"""Query, key and value come out of one product."""

from __future__ import annotations

import onnx_ir as ir

from ...architectures import Architecture
from ...quantization.tensors import stacked
from .. import names
from ..rewrite import Rewrite, add_initializer, add_node, name_of, nodes, producer, weight_of

__all__ = ["PackQKV"]


class PackQKV(Rewrite):
    """GroupQueryAttention(x Wq', x Wk', x Wv', ...) -> GroupQueryAttention(x [Wq; Wk; Wv]', , , ...).

    One product of three times the width keeps all cores busy, and its input is quantized once. An architecture whose
    modules have it already is traced so.
    """

    def __init__(self, architecture: Architecture) -> None:
        """``architecture`` knows what the one product is called."""
        super().__init__()
        self.architecture = architecture

    def rewrite(self, graph: ir.Graph) -> int:
        return sum(self._pack(graph, attention) for attention in nodes(graph, "GroupQueryAttention"))

    def _pack(self, graph: ir.Graph, attention: ir.Node) -> bool:
        if attention.inputs[1] is None:
            return True  # traced so
        products = [producer(value, "MatMul") for value in attention.inputs[:3]]
        transposes = [producer(p.inputs[1], "Transpose") if p else None for p in products]
        if not all(transposes) or len({id(p.inputs[0]) for p in products if p}) != 1:
            return False
        weights = [t.inputs[0] for t in transposes if t]
        x = next(p.inputs[0] for p in products if p)
        name = self.architecture.multiplied_as(name_of(weights[0]))
        weight = add_initializer(graph, name, stacked([weight_of(w) for w in weights]))
        transposed = add_node(attention, "Transpose", [weight], name=f"{name}/transposed")
        query = add_node(attention, "MatMul", [x, transposed], name=names.module_of(name))
        for i, value in enumerate([query, None, None]):
            attention.replace_input_with(i, value)
        return True
