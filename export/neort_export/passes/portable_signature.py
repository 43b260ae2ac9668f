"""The decoder under the signature that other programs expect of a decoder with past."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import Rewrite, add_node, constant, nodes

__all__ = ["PortableSignature"]

TOTAL = "past_sequence_length + sequence_length"  # the axis name that optimum gave to graphs with past


class PortableSignature(Rewrite):
    """seqlens_k -> sum(attention_mask) - 1, total_sequence_length -> its width, logits_to_keep -> all of them.

    What is left are the inputs ``input_ids``, ``attention_mask``, ``position_ids`` and the past, the outputs
    ``logits`` [B, S, V] and the present. The present is one array of past and new tokens, or, where a caller binds
    the past's memory to it, the past itself: GroupQueryAttention does either. It runs last, on a clone of the
    decoder; no initializer that lies in the weights file changes.
    """

    def rewrite(self, graph: ir.Graph) -> int:
        inputs = {value.name: value for value in graph.inputs}
        mask = ir.Value(name="attention_mask", type=ir.TensorType(ir.DataType.INT64))
        replacements = {
            "seqlens_k": _last_index(graph, mask),
            "total_sequence_length": _width(graph, mask),
            "logits_to_keep": _new_tokens(graph),
        }
        for name, value in replacements.items():
            ir.convenience.replace_all_uses_with(inputs.pop(name), value)
        cache = [value for name, value in inputs.items() if name not in ("input_ids", "position_ids")]
        graph.inputs[:] = [inputs["input_ids"], mask, inputs["position_ids"], *cache]
        _name_axes(graph, mask)
        return len(replacements)


def _last_index(graph: ir.Graph, mask: ir.Value) -> ir.Value:
    """Index of the last token of each sequence, int32 [B]."""
    axis = constant(graph, "axis_1", np.array([1], np.int64))
    one = constant(graph, "one", np.array(1, np.int64))
    first = next(iter(graph))
    count = add_node(first, "ReduceSum", [mask, axis], {"keepdims": 0}, name="token_counts")
    last = add_node(first, "Sub", [count, one], name="last_indices")
    return add_node(first, "Cast", [last], {"to": int(ir.DataType.INT32)}, name="seqlens_k/from_mask")


def _width(graph: ir.Graph, mask: ir.Value) -> ir.Value:
    """Length of the longest sequence after this run, int32 []."""
    one = constant(graph, "one", np.array(1, np.int64))
    first = next(iter(graph))
    shape = add_node(first, "Shape", [mask], name="mask_shape")
    width = add_node(first, "Gather", [shape, one], {"axis": 0}, name="mask_width")
    return add_node(first, "Cast", [width], {"to": int(ir.DataType.INT32)}, name="total_sequence_length/from_mask")


def _new_tokens(graph: ir.Graph) -> ir.Value:
    """The number of new tokens, int64 []."""
    one = constant(graph, "one", np.array(1, np.int64))
    shape = next(node for node in nodes(graph, "Shape") if node.outputs[0].name == "tokens_shape")
    following = next(node for node in graph if any(use.node is node for use in shape.outputs[0].uses()))
    return add_node(following, "Gather", [shape.outputs[0], one], {"axis": 0}, name="new_tokens")


def _name_axes(graph: ir.Graph, mask: ir.Value) -> None:
    mask.shape = ir.Shape(["batch_size", TOTAL])
    for value in graph.inputs:
        if (value.name or "").startswith("past_key_values."):
            value.shape = _with_axes(value, {0: "batch_size", 2: "past_sequence_length"})
    logits, *cache = graph.outputs
    logits.shape = _with_axes(logits, {0: "batch_size", 1: "sequence_length"})
    for value, past in zip(cache, graph.inputs[3:], strict=True):
        value.shape = _with_axes(past, {2: TOTAL})


def _with_axes(value: ir.Value, names: dict[int, str]) -> ir.Shape:
    shape = value.shape or ()
    return ir.Shape([names.get(axis, size) for axis, size in enumerate(shape)])
