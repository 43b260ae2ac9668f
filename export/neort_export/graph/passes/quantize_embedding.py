"""The token embedding as int8 rows."""

from __future__ import annotations

import onnx_ir as ir

from ...quantization.tensors import quantized_rows, row_scales
from ..rewrite import Rewrite, add_initializer, add_node, replace_uses, weight_of

__all__ = ["QuantizeEmbedding"]


class QuantizeEmbedding(Rewrite):
    """Gather(wte, ids) -> Cast(Gather(wte_int8, ids)) * Gather(wte_scale [V, 1], ids).

    Only the rows that are looked up are ever converted, so the table stays in the memory-mapped file.
    """

    def rewrite(self, graph: ir.Graph) -> int:
        table = graph.initializers.get("transformer.wte.weight")
        if table is None:
            return 0
        gathers = [use.node for use in table.uses()]
        weight = weight_of(table)
        scales = row_scales(weight)
        rows = add_initializer(graph, "transformer.wte.weight_quantized", quantized_rows(weight, scales))
        scale = add_initializer(graph, "transformer.wte.weight_scale", scales[:, None])
        for gather in gathers:
            ids, output = gather.inputs[1], gather.outputs[0]
            integers = add_node(gather, "Gather", [rows, ids], {"axis": 0}, name="wte/integers")
            floats = add_node(gather, "Cast", [integers], {"to": int(ir.DataType.FLOAT)}, name="wte/floats")
            factors = add_node(gather, "Gather", [scale, ids], {"axis": 0}, name="wte/scales")
            embedded = add_node(gather, "Mul", [floats, factors], name="wte/embedded", like=output)
            replace_uses(output, embedded)
            graph.remove(gather, safe=True)
        del graph.initializers["transformer.wte.weight"]
        return len(gathers)
