"""The token embedding as int8 rows."""

from __future__ import annotations

import onnx_ir as ir

from ...quantization.tensors import quantized_rows, row_scales
from .. import names
from ..rewrite import Rewrite, add_initializer, add_node, name_of, nodes, replace_uses, weight_of

__all__ = ["QuantizeEmbedding"]


class QuantizeEmbedding(Rewrite):
    """Gather(table, ids) -> Cast(Gather(table_int8, ids)) * Gather(table_scale [V, 1], ids), ids the graph's tokens.

    Only the rows that are looked up are ever converted, so the table stays in the memory-mapped file.
    """

    def rewrite(self, graph: ir.Graph) -> int:
        gathers = [node for node in nodes(graph, "Gather") if node.inputs[1] is graph.inputs[0]]
        if not gathers:
            return 0
        name = name_of(gathers[0].inputs[0])
        weight = weight_of(gathers[0].inputs[0])
        scales = row_scales(weight)
        rows = add_initializer(graph, names.quantized(name), quantized_rows(weight, scales))
        scale = add_initializer(graph, names.scale(name), scales[:, None])
        table = names.module_of(name).rpartition(".")[2]
        for gather in gathers:
            ids, output = gather.inputs[1], gather.outputs[0]
            integers = add_node(gather, "Gather", [rows, ids], {"axis": 0}, name=f"{table}/integers")
            floats = add_node(gather, "Cast", [integers], {"to": int(ir.DataType.FLOAT)}, name=f"{table}/floats")
            factors = add_node(gather, "Gather", [scale, ids], {"axis": 0}, name=f"{table}/scales")
            embedded = add_node(gather, "Mul", [floats, factors], name=f"{table}/embedded", like=output)
            replace_uses(output, embedded)
            graph.remove(gather, safe=True)
        del graph.initializers[name]
        return len(gathers)
