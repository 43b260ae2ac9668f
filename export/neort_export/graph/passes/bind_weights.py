"""Initializers get their values from the checkpoint."""

from __future__ import annotations

import onnx_ir as ir

from ...checkpoint import Checkpoint
from ...quantization.tensors import stored
from ..rewrite import Rewrite, add_initializer, name_of, nodes

__all__ = ["BindWeights"]


class BindWeights(Rewrite):
    """initializer ``name`` -> the checkpoint's tensor of that state-dict name; Identity(x) -> x.

    A tied embedding, which the trace shares between Gather and lm_head, becomes two initializers over the same rows:
    what happens to one (folding, quantizing) must not touch the other.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.names = checkpoint.architecture.names

    def rewrite(self, graph: ir.Graph) -> int:
        for node in nodes(graph, "Identity"):
            ir.convenience.replace_all_uses_with(node.outputs[0], [v for v in node.inputs if v])
        known = {*self.checkpoint.expected_shapes(), self.names.head}
        weights = [value for value in graph.initializers.values() if value.name in known]
        for value in weights:
            self._bind(graph, value)
        return len(weights)

    def _bind(self, graph: ir.Graph, value: ir.Value) -> None:
        name = name_of(value)
        tensor = stored(self.checkpoint, name)
        gathers = [use.node for use in value.uses() if use.node.op_type == "Gather"]
        if name == self.names.head and gathers:
            embedding = add_initializer(graph, self.names.token_embedding, stored(self.checkpoint, name))
            for node in gathers:
                node.replace_input_with(0, embedding)
        tensor.name = name
        value.const_value = tensor
        value.shape = ir.Shape(tensor.shape)
