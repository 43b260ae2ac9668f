"""Logits are computed for each sequence's last positions only, as many as the caller asks for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .. import names
from ..rewrite import Rewrite, add_node, axis, constant, named_value, producer

__all__ = ["KeepLastLogits"]


class KeepLastLogits(Rewrite):
    """logits [B, S, V] -> logits [B, n, V], n = the new int64 input ``logits_to_keep``, 0 <= n <= S.

    The last LayerNormalization and lm_head see n rows of each sequence: none while a prompt is still being prefilled,
    one for decoding, all for scoring. They end at the sequence's own last token, which ``seqlens_k`` tells where
    prompts of several lengths are padded on the right; those before its first are the first one again. Needs flat rows:
    it runs after FlattenTokens.
    """

    def rewrite(self, graph: ir.Graph) -> int:
        head = graph.outputs[0].producer()
        norm = producer(head.inputs[0], "LayerNormalization") if head else None
        if head is None or norm is None:
            return 0
        vocabulary, hidden = (int(d) for d in head.inputs[1].shape)  # type: ignore[union-attr, arg-type]
        keep = ir.Value(name=names.LOGITS_TO_KEEP, shape=ir.Shape([]), type=ir.TensorType(ir.DataType.INT64))
        graph.inputs.append(keep)
        zero = axis(graph, 0)
        kept = add_node(norm, "Unsqueeze", [keep, zero], name="kept")
        tokens = named_value(graph, names.TOKENS_SHAPE)
        assert tokens is not None  # FlattenTokens has put it there
        norm.replace_input_with(0, _last_rows(graph, norm, tokens, keep, hidden))
        batch = add_node(norm, "Gather", [tokens, zero], {"axis": 0}, name=names.BATCH_SIZE)
        width = constant(graph, "vocab_size", np.array([vocabulary], np.int64))
        shape = add_node(norm, "Concat", [batch, kept, width], {"axis": 0}, name="logits_shape")
        graph.outputs[0] = _logits(graph, head, shape, vocabulary)
        return 1


def _last_rows(graph: ir.Graph, norm: ir.Node, tokens: ir.Value, keep: ir.Value, hidden: int) -> ir.Value:
    """The last ``keep`` rows of every sequence, flat: [B*n, K]."""
    width = constant(graph, names.HIDDEN_SIZE, np.array([hidden], np.int64))
    shape = add_node(norm, "Concat", [tokens, width], {"axis": 0}, name="hidden_shape")
    by_sequence = add_node(norm, "Reshape", [norm.inputs[0], shape], name=names.HIDDEN_BY_SEQUENCE)
    places = _last_places(graph, norm, tokens, keep)
    last = add_node(norm, "GatherND", [by_sequence, places], {"batch_dims": 1}, name=names.LAST_BY_SEQUENCE)
    return add_node(norm, "Reshape", [last, graph.initializers[names.ROWS_SHAPE]], name="last_rows")


def _last_places(graph: ir.Graph, norm: ir.Node, tokens: ir.Value, keep: ir.Value) -> ir.Value:
    """Where the last ``keep`` tokens of every sequence are among its S of this run: int64 [B, n, 1].

    ``seqlens_k`` is the last one's place in the cache: where nothing comes before, its place in the run, too; else it
    is S - 1 or more, and the run has no padding.
    """
    one, column = constant(graph, "one", np.array(1, np.int64)), axis(graph, 1)
    length = add_node(norm, "Gather", [tokens, column], {"axis": 0}, name=names.SEQUENCE_LENGTH)
    final = add_node(norm, "Sub", [length, one], name="final_place")
    cached = next(value for value in graph.inputs if value.name == names.SEQLENS_K)
    in_cache = add_node(norm, "Cast", [cached], {"to": int(ir.DataType.INT64)}, name="last_place_in_cache")
    last = add_node(norm, "Min", [in_cache, final], name="last_place")
    by_sequence = add_node(norm, "Unsqueeze", [last, column], name="last_place_by_sequence")
    first = add_node(norm, "Sub", [one, keep], name="first_offset")
    offsets = add_node(norm, "Range", [first, one, one], name="kept_offsets")
    places = add_node(norm, "Add", [by_sequence, offsets], name="kept_places")
    own = add_node(norm, "Max", [places, axis(graph, 0)], name="own_kept_places")
    return add_node(norm, "Unsqueeze", [own, axis(graph, 2)], name="kept_indices")


def _logits(graph: ir.Graph, head: ir.Node, shape: ir.Value, vocabulary: int) -> ir.Value:
    """The head's rows as [B, n, V], under the output's name."""
    rows = head.outputs[0]
    rows.name, rows.shape = names.LOGIT_ROWS, None
    reshape = ir.node("Reshape", [rows, shape], {"allowzero": 1}, name=f"{names.LOGITS}/Reshape")  # n may be 0
    graph.append(reshape)
    logits = reshape.outputs[0]
    logits.name, logits.type = names.LOGITS, ir.TensorType(ir.DataType.FLOAT)
    logits.shape = ir.Shape([names.BATCH_SIZE, names.LOGITS_TO_KEEP, vocabulary])
    return logits
