"""Traces transformers' own model to an ONNX graph with past-key-value inputs, without loading a weight.

The attention core of each layer is replaced by onnxruntime's GroupQueryAttention, everything else is the graph of
transformers' modules. Initializers keep their state-dict names and have no values yet.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ..architectures import Architecture, Dimensions, architecture_of
from . import names

__all__ = ["OPSET", "trace"]

OPSET = 21  # QuantizeLinear with uint8, GroupQueryAttention's contrib domain and every onnxruntime since 1.20
CACHE_LENGTH = "cache_length"

Past = list[torch.Tensor]


def trace(config: Any) -> ir.Model:
    """Trace the model of one of transformers' configurations.

    Inputs: ``input_ids`` and ``position_ids`` int64 [B, S]; ``seqlens_k`` int32 [B] (tokens in the cache after this
    run, minus one, per row); ``total_sequence_length`` int32 [] (the largest of them, plus one); both once more as
    ``local_seqlens_k`` and ``local_total_sequence_length`` for local layers, whose past may begin at a later token;
    ``past_key_values.{i}.key|value`` float32 [B, H, M, D], where M is the length of the cache buffer and D the stored
    width of a head, for which `PadHeads` makes queries, keys and values.
    Outputs: ``logits`` float32 [B, S, V]; ``present.{i}.key|value`` like the past, meant to be bound to its memory.

    Raises KeyError for a configuration of an architecture that is not registered.
    """
    architecture = architecture_of(config)
    dimensions = architecture.dimensions(config)
    with FakeTensorMode(), _quiet():
        wrapper = _Decoder(architecture, config).eval()
        program = torch.onnx.export(
            wrapper,
            _example_inputs(dimensions),
            dynamic_shapes=_dynamic_shapes(dimensions),
            dynamo=True,
            optimize=False,  # constant folding fails on tensors without values
            verbose=False,
            opset_version=OPSET,
        )
    assert program is not None  # dynamo=True always returns a program
    return _named(program.model, dimensions)


class _Decoder(torch.nn.Module):
    """A causal language model with flat tensors as inputs and outputs, its attention replaced."""

    def __init__(self, architecture: Architecture, config: Any) -> None:
        super().__init__()
        self.model = architecture.causal_lm(config)
        self.dimensions = architecture.dimensions(config)
        self.attentions = architecture.attentions(self.model)
        for i, attention in enumerate(self.attentions):
            attention.forward = _group_query_attention(architecture, config, i, attention)

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        seqlens_k: torch.Tensor,
        total_sequence_length: torch.Tensor,
        local_seqlens_k: torch.Tensor,
        local_total_sequence_length: torch.Tensor,
        past: Past,
    ) -> tuple[torch.Tensor, ...]:
        lengths = {
            "global": (seqlens_k, total_sequence_length),
            "local": (local_seqlens_k, local_total_sequence_length),
        }
        for i, attention in enumerate(self.attentions):
            attention.past = (past[2 * i], past[2 * i + 1], *lengths[self.dimensions.attention_layers[i]])
        hidden = self.model.base_model(input_ids=input_ids, position_ids=position_ids, use_cache=False)[0]
        logits = self.model.get_output_embeddings()(hidden)  # without transformers' slice: KeepLastLogits does that
        return (logits, *(present for attention in self.attentions for present in attention.present))


def _group_query_attention(
    architecture: Architecture, config: Any, layer: int, attention: Any
) -> Callable[..., tuple[torch.Tensor, None]]:
    """A forward for a layer's attention; global layers have no window."""
    dimensions = architecture.dimensions(config)
    attributes: dict[str, Any] = {
        "num_heads": dimensions.num_heads,
        "kv_num_heads": dimensions.num_heads,
        "scale": float(np.float32(architecture.attention_scale(config, layer))),  # as ONNX stores it
        "do_rotary": 0,
        "local_window_size": dimensions.window_size if dimensions.attention_layers[layer] == "local" else -1,
    }

    def forward(hidden_states: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor, None]:
        made = architecture.project(attention, hidden_states)
        query, key, value = made if len(made) == 3 else (*made, None, None)
        past_key, past_value, seqlens_k, total = attention.past
        output, *attention.present = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            (query, key, value, past_key, past_value, seqlens_k, total),
            attrs=attributes,
            dtypes=(torch.float32,) * 3,
            shapes=(hidden_states.shape, past_key.shape, past_value.shape),
            version=1,
        )
        return architecture.project_back(attention, output), None

    return forward


def _example_inputs(dimensions: Dimensions) -> tuple[Any, ...]:
    batch, sequence, buffer = 2, 3, 7  # any sizes: all of them are symbolic in the graph
    shape = (batch, dimensions.num_heads, buffer, dimensions.stored_head_dim)
    past = [torch.zeros(shape) for _ in range(2 * dimensions.num_layers)]
    ids = torch.zeros(batch, sequence, dtype=torch.int64)
    lengths, longest = torch.zeros(batch, dtype=torch.int32), torch.zeros((), dtype=torch.int32)
    return ids, ids.clone(), lengths, longest, lengths.clone(), longest.clone(), past


def _dynamic_shapes(dimensions: Dimensions) -> tuple[Any, ...]:
    axes = (names.BATCH_SIZE, names.SEQUENCE_LENGTH, CACHE_LENGTH)
    batch, sequence, buffer = (torch.export.Dim(name) for name in axes)
    past = [{0: batch, 2: buffer}] * (2 * dimensions.num_layers)
    ids = {0: batch, 1: sequence}
    return ids, ids, {0: batch}, None, {0: batch}, None, past


def _named(model: ir.Model, dimensions: Dimensions) -> ir.Model:
    """Give inputs, outputs and initializers the field's names."""
    graph = model.graph
    parts = names.cache_parts(dimensions.num_layers)
    for value, part in zip(graph.inputs[6:], parts, strict=True):
        value.name = names.past(part)
    for value, name in zip(graph.outputs, [names.LOGITS, *map(names.present, parts)], strict=True):
        value.name = name
    for value in list(graph.initializers.values()):
        assert value.name is not None  # the registry of initializers is keyed by name
        value.name = value.name.removeprefix("model.")
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()  # torch.export's bookkeeping
    model.producer_name, model.producer_version = "neort", None
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx reports missing torchvision operators and shared axis names: nothing a user can act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
