"""Logits are computed for the last positions only, as many as the caller asks for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .. import names
from ..rewrite import Rewrite, add_node, axis, constant, named_value, producer

__all__ = ["KeepLastLogits"]


class KeepLastLogits(Rewrite):
    """logits [B, S, V] -> logits [B, n, V], n = the new int64 input ``logits_to_keep``, 0 <= n <= S.

    The last LayerNormalization and lm_head see the last n rows of each sequence: none while a prompt is still being
    prefilled, one for decoding, all for scoring. Needs flat rows: it runs after FlattenTokens.
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
        norm.replace_input_with(0, _last_rows(graph, norm, tokens, kept, hidden))
        batch = add_node(norm, "Gather", [tokens, zero], {"axis": 0}, name=names.BATCH_SIZE)
        width = constant(graph, "vocab_size", np.array([vocabulary], np.int64))
        shape = add_node(norm, "Concat", [batch, kept, width], {"axis": 0}, name="logits_shape")
        graph.outputs[0] = _logits(graph, head, shape, vocabulary)
        return 1


def _last_rows(graph: ir.Graph, norm: ir.Node, tokens: ir.Value, kept: ir.Value, hidden: int) -> ir.Value:
    """The last ``kept`` rows of every sequence, flat: [B*n, K]."""
    sequence = axis(graph, 1)
    width = constant(graph, names.HIDDEN_SIZE, np.array([hidden], np.int64))
    shape = add_node(norm, "Concat", [tokens, width], {"axis": 0}, name="hidden_shape")
    by_sequence = add_node(norm, "Reshape", [norm.inputs[0], shape], name=names.HIDDEN_BY_SEQUENCE)
    length = add_node(norm, "Gather", [tokens, sequence], {"axis": 0}, name=names.SEQUENCE_LENGTH)
    start = add_node(norm, "Sub", [length, kept], name="first_kept")
    last = add_node(norm, "Slice", [by_sequence, start, length, sequence], name=names.LAST_BY_SEQUENCE)
    return add_node(norm, "Reshape", [last, graph.initializers[names.ROWS_SHAPE]], name="last_rows")


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
