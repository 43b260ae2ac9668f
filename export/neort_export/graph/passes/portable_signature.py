"""The decoder under the signature that other programs expect of a decoder with past."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .. import names
from ..rewrite import Rewrite, add_node, axis, constant, nodes

__all__ = ["PortableSignature"]

TOTAL = "past_sequence_length + sequence_length"  # the axis name that transformers' exporters use
HEAD_DIM = "head_dim"


class PortableSignature(Rewrite):
    """seqlens_k -> sum(attention_mask) - 1, total_sequence_length -> its width, logits_to_keep -> sequence_length.

    Local layers get the same: their past begins at the first token.

    What is left are the inputs ``input_ids``, ``attention_mask``, ``position_ids`` and the past, the outputs
    ``logits`` [B, S, V] and the present: past and new tokens in one array, or, where a caller binds the past's memory
    to it, the past itself. GroupQueryAttention does either.

    Callers make their first past, which is empty, of the head_dim in config.json. Where the graph's is another one
    (see `PadHeads`), a past is reshaped to it: an empty one becomes as wide, any other is as wide already and stays in
    place.

    A prompt that is padded on its left is rolled to the left before the embedding, and its hidden states are rolled
    back before lm_head, since GroupQueryAttention takes padding on the right only.

    It runs last, on a clone of the decoder that KeepLastLogits has seen, and leaves all weights as they are.
    """

    def rewrite(self, graph: ir.Graph) -> int:
        old = {value.name: value for value in graph.inputs}
        if names.LOGITS_TO_KEEP not in old:
            return 0
        ids, positions = old.pop(names.INPUT_IDS), old.pop(names.POSITION_IDS)
        mask = ir.Value(name=names.ATTENTION_MASK, type=ir.TensorType(ir.DataType.INT64))
        first = next(iter(graph))
        new_tokens, width = _size(graph, first, ids), _size(graph, first, mask)
        replacements = {
            names.SEQLENS_K: _last_index(graph, first, mask),
            names.TOTAL_SEQUENCE_LENGTH: _int32(first, width),
            names.LOGITS_TO_KEEP: new_tokens,
        }
        replacements |= {
            names.local(name): replacements[name] for name in (names.SEQLENS_K, names.TOTAL_SEQUENCE_LENGTH)
        }
        for name, value in replacements.items():
            ir.convenience.replace_all_uses_with(old.pop(name), value)
        _roll(graph, first, [ids, positions], _padding(graph, first, mask, new_tokens, width), new_tokens)
        graph.inputs[:] = [ids, mask, positions, *old.values()]
        if names.ATTENDED_SHAPE in graph.initializers:
            for past in old.values():
                _take_any_width(graph, first, past)
        _name_axes(graph, mask)
        return len(replacements)


def _size(graph: ir.Graph, first: ir.Node, value: ir.Value) -> ir.Value:
    """The length of the second axis, int64 []."""
    shape = add_node(first, "Shape", [value], name=f"{value.name}_shape")
    second = constant(graph, "one", np.array(1, np.int64))
    return add_node(first, "Gather", [shape, second], {"axis": 0}, name=f"{value.name}_width")


def _last_index(graph: ir.Graph, first: ir.Node, mask: ir.Value) -> ir.Value:
    """Index of each sequence's last token in the cache, int32 [B]."""
    tokens = axis(graph, 1)
    one = constant(graph, "one", np.array(1, np.int64))
    count = add_node(first, "ReduceSum", [mask, tokens], {"keepdims": 0}, name="token_counts")
    last = add_node(first, "Sub", [count, one], name="last_indices")
    return _int32(first, last)


def _int32(first: ir.Node, value: ir.Value) -> ir.Value:
    return add_node(first, "Cast", [value], {"to": int(ir.DataType.INT32)}, name=f"{value.name}_int32")


def _padding(graph: ir.Graph, first: ir.Node, mask: ir.Value, new_tokens: ir.Value, width: ir.Value) -> ir.Value:
    """Tokens of padding on the left of each sequence, int64 [B, 1]; 0 once there is a past, which has none."""
    leading = add_node(first, "ArgMax", [mask], {"axis": 1, "keepdims": 1}, name="leading_zeros")
    is_prompt = add_node(first, "Equal", [new_tokens, width], name="is_prompt")
    factor = add_node(first, "Cast", [is_prompt], {"to": int(ir.DataType.INT64)}, name="is_prompt_int64")
    return add_node(first, "Mul", [leading, factor], name="left_padding")


def _roll(graph: ir.Graph, first: ir.Node, inputs: list[ir.Value], padding: ir.Value, new_tokens: ir.Value) -> None:
    """Read ``inputs`` [B, S] from the first token after the padding on, and undo that before lm_head."""
    places = add_node(
        first,
        "Range",
        [constant(graph, "zero", np.array(0, np.int64)), new_tokens, constant(graph, "one", np.array(1, np.int64))],
        name="places",
    )
    after = add_node(first, "Add", [places, padding], name="places_behind_padding")
    rolled = add_node(first, "Mod", [after, new_tokens], name="rolled_places")
    for value in inputs:
        lookups = [use for use in value.uses() if use.node.op_type == "Gather"]
        tokens = add_node(first, "GatherElements", [value, rolled], {"axis": 1}, name=f"{value.name}_rolled")
        for use in lookups:
            use.node.replace_input_with(use.idx, tokens)
    kept = next(node for node in nodes(graph, "GatherND") if node.outputs[0].name == names.LAST_BY_SEQUENCE)
    before = add_node(kept, "Sub", [places, padding], name="places_before_padding")
    original = add_node(kept, "Mod", [before, new_tokens], name="original_places")
    last = constant(graph, "last_axis", np.array([-1], np.int64))
    indices = add_node(kept, "Unsqueeze", [original, last], name="original_indices")
    hidden = add_node(kept, "GatherND", [kept.inputs[0], indices], {"batch_dims": 1}, name="hidden_as_given")
    ir.convenience.replace_all_uses_with(kept.outputs[0], hidden)


def _take_any_width(graph: ir.Graph, first: ir.Node, past: ir.Value) -> None:
    """Take a past [B, H, P, D] as wide as the graph's, or one of any width where P is 0."""
    uses = list(past.uses())
    width = past.shape[3] if past.shape else 0
    assert isinstance(width, int)  # as it was traced
    shape = constant(graph, "past_shape", np.array([0, 0, 0, width], np.int64))  # 0: as it is
    as_wide = add_node(first, "Reshape", [past, shape], name=f"{past.name}/as_wide", like=past)
    for use in uses:
        use.node.replace_input_with(use.idx, as_wide)
    past.shape = _with_axes(past, {3: HEAD_DIM})


def _name_axes(graph: ir.Graph, mask: ir.Value) -> None:
    mask.shape = ir.Shape([names.BATCH_SIZE, TOTAL])
    cache = graph.inputs[3:]
    for value in cache:
        value.shape = _with_axes(value, {0: names.BATCH_SIZE, 2: "past_sequence_length"})
    logits, *present = graph.outputs
    logits.shape = _with_axes(logits, {0: names.BATCH_SIZE, 1: names.SEQUENCE_LENGTH})
    for value in present:
        value.shape = _with_axes(value, {0: names.BATCH_SIZE, 2: TOTAL})


def _with_axes(value: ir.Value, named: dict[int, str]) -> ir.Shape:
    return ir.Shape([named.get(index, size) for index, size in enumerate(value.shape or ())])
