"""An odd number of rows gets one more, of zeros, between attentions and for lm_head."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .. import names
from ..rewrite import Rewrite, add_node, axis, constant, nodes, producer

__all__ = ["PadRows"]


class PadRows(Rewrite):
    """Rows [R, K] -> [R + R % 2, K] before lm_head, and in all layers: after the embedding and after each attention.

    MatMulNBits works on pairs of rows. Where one is left over, it adds up its blocks in another order, unless they
    are small. With an even number of rows a row has the same bits in any company, whatever the size of the blocks; a
    second row costs next to nothing, since both are multiplied with weights that are read once.

    Attention sees the first R rows, and so does who asked for logits. Needs flat rows and the last logits only: it runs
    after FlattenTokens and KeepLastLogits.
    """

    def rewrite(self, graph: ir.Graph) -> int:
        shape = graph.initializers.get(names.ROWS_SHAPE)
        if shape is None or shape.const_value is None:
            return 0
        hidden = int(shape.const_value.numpy()[1])
        named = {node.outputs[0].name: node for node in graph}
        tokens, embedded = named[names.TOKENS_SHAPE], named[names.HIDDEN_STATES]
        after = _next(graph, tokens)
        count = add_node(after, "ReduceProd", [tokens.outputs[0]], {"keepdims": 1}, name="row_count")
        padding = _padding(graph, after, count, hidden, "padding")
        _append(graph, embedded.outputs[0], padding)
        attentions = list(nodes(graph, "GroupQueryAttention"))
        wide = graph.initializers.get(names.ATTENDED_SHAPE)  # of padded heads, see `PadHeads`
        attended = padding
        if wide is not None and wide.const_value is not None:
            width = int(wide.const_value.numpy()[1])
            attended = _padding(graph, after, count, width, "attended_padding", names.ATTENDED_WIDTH)
        for attention in attentions:
            flat = next(iter(attention.outputs[0].uses())).node
            shaped = producer(attention.inputs[0], "Reshape")
            assert shaped is not None  # FlattenTokens has put it there
            _cut(graph, shaped, count)
            _append(graph, flat.outputs[0], attended)
        _cut(graph, named[names.HIDDEN_BY_SEQUENCE], count)
        self._pad_head(graph, hidden)
        return len(attentions)

    def _pad_head(self, graph: ir.Graph, hidden: int) -> None:
        """lm_head has as many rows as logits are asked for."""
        shaped = graph.outputs[0].producer()
        head = shaped.inputs[0].producer() if shaped and shaped.inputs[0] else None
        rows = head.inputs[0] if head else None
        assert shaped is not None  # KeepLastLogits has made these
        assert head is not None
        assert rows is not None
        shape = add_node(head, "Shape", [rows], {"start": 0, "end": 1}, name="kept_row_count")
        _append(graph, rows, _padding(graph, head, shape, hidden, "kept_padding"), besides=shape)
        _cut(graph, shaped, shape)


def _next(graph: ir.Graph, node: ir.Node) -> ir.Node:
    order = list(graph)
    return order[order.index(node) + 1]


def _padding(
    graph: ir.Graph, before: ir.Node, count: ir.Value, size: int, name: str, size_name: str = names.HIDDEN_SIZE
) -> ir.Value:
    """Zeros, [1, K] where ``count`` [1] is odd and [0, K] where it is even."""
    two, width = (constant(graph, n, np.array([v], np.int64)) for n, v in (("two", 2), (size_name, size)))
    odd = add_node(before, "Mod", [count, two], name=f"{name}/count")
    shape = add_node(before, "Concat", [odd, width], {"axis": 0}, name=f"{name}/shape")
    return add_node(before, "ConstantOfShape", [shape], name=name)


def _append(graph: ir.Graph, rows: ir.Value, padding: ir.Value, besides: ir.Value | None = None) -> None:
    """Every consumer of ``rows`` but the node of ``besides`` reads them with the padding after them."""
    uses = [use for use in rows.uses() if besides is None or use.node is not besides.producer()]
    first = next(node for node in graph if any(use.node is node for use in uses))
    padded = add_node(first, "Concat", [rows, padding], {"axis": 0}, name=f"{rows.name}/padded")
    for use in uses:
        use.node.replace_input_with(use.idx, padded)


def _cut(graph: ir.Graph, consumer: ir.Node, count: ir.Value) -> None:
    """The node reads the first ``count`` [1] rows of its first input."""
    rows = consumer.inputs[0]
    zero = axis(graph, 0)
    assert rows is not None
    cut = add_node(consumer, "Slice", [rows, zero, count, zero], name=f"{rows.name}/cut")
    consumer.replace_input_with(0, cut)
