"""Between attentions the tokens of all sequences form one list of rows."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .. import names
from ..rewrite import Rewrite, add_node, constant, nodes, producer, replace_uses, weight_of

__all__ = ["FlattenTokens"]


class FlattenTokens(Rewrite):
    """Hidden states [B, S, K] -> [B*S, K] after the embedding; [B, S, 3K] only around GroupQueryAttention.

    Products, their per-row quantization and elementwise nodes then work on plain matrices, and a row neither knows
    which sequence it belongs to nor how many rows stand beside it. Needs packed q/k/v: it runs after PackQKV.
    """

    def rewrite(self, graph: ir.Graph) -> int:
        attentions = list(nodes(graph, "GroupQueryAttention"))
        if not attentions:
            return 0
        embedded = next(n for n in nodes(graph, "Add") if all(producer(value, "Gather") for value in n.inputs))
        hidden = _width(embedded)
        constant(graph, names.ROWS_SHAPE, np.array([-1, hidden], np.int64))
        qkv_shape = self._qkv_shape(graph, hidden)
        flatten(graph, embedded.outputs[0], names.HIDDEN_STATES)
        for i, attention in enumerate(attentions):
            by_sequence = add_node(attention, "Reshape", [attention.inputs[0], qkv_shape], name=f"qkv.{i}")
            attention.replace_input_with(0, by_sequence)
            flatten(graph, attention.outputs[0], f"attended.{i}")
        self._drop_views(graph)
        self._forget_shapes(graph)
        return len(attentions)

    def _qkv_shape(self, graph: ir.Graph, hidden: int) -> ir.Value:
        first = next(iter(graph))
        tokens = add_node(first, "Shape", [graph.inputs[0]], name=names.TOKENS_SHAPE)
        width = constant(graph, names.QKV_WIDTH, np.array([3 * hidden], np.int64))
        return add_node(first, "Concat", [tokens, width], {"axis": 0}, name="qkv_shape")

    def _drop_views(self, graph: ir.Graph) -> None:
        """transformers views the output of its last LayerNormalization as [B, S, K]; it stays flat here.

        Some architectures view their token ids as [B, S], which they are.
        """
        for view in nodes(graph, "Reshape"):
            viewed = view.inputs[0]
            if viewed is not None and (viewed is graph.inputs[0] or producer(viewed, "LayerNormalization")):
                replace_uses(view.outputs[0], viewed)

    def _forget_shapes(self, graph: ir.Graph) -> None:
        """The traced shapes of values between inputs and outputs no longer hold."""
        for value in (v for node in graph for v in node.outputs if not v.is_graph_output()):
            value.shape = None


def _width(embedded: ir.Node) -> int:
    """The width of an embedding's rows, of the sum of two lookups."""
    lookup = producer(embedded.inputs[0], "Gather")
    assert lookup is not None  # both inputs are lookups
    return weight_of(lookup.inputs[0]).dims[1]


def flatten(graph: ir.Graph, value: ir.Value, name: str) -> None:
    """Let every consumer of ``value`` [B, S, K] read it as rows [B*S, K]."""
    uses = list(value.uses())
    first = next(node for node in graph if any(use.node is node for use in uses))
    flat = add_node(first, "Reshape", [value, graph.initializers[names.ROWS_SHAPE]], name=name)
    for use in uses:
        use.node.replace_input_with(use.idx, flat)
