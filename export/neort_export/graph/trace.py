"""Traces transformers' own GPT-Neo to an ONNX graph with past-key-value inputs, without loading a weight.

The attention core of each layer is replaced by onnxruntime's GroupQueryAttention, everything else is the graph of
transformers' modules. Initializers keep their state-dict names and have no values yet.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

__all__ = ["OPSET", "trace"]

OPSET = 21  # QuantizeLinear with uint8, GroupQueryAttention's contrib domain and every onnxruntime since 1.20

Past = list[torch.Tensor]


def trace(config: Any) -> ir.Model:
    """The graph of a GPTNeoConfig.

    Inputs: ``input_ids`` and ``position_ids`` int64 [B, S]; ``seqlens_k`` int32 [B] (tokens in the cache after this
    run, minus one, per row); ``total_sequence_length`` int32 [] (the largest of them, plus one); both once more as
    ``local_seqlens_k`` and ``local_total_sequence_length`` for local layers, whose past may begin at a later token;
    ``past_key_values.{i}.key|value`` float32 [B, H, M, D], where M is the length of the cache buffer.
    Outputs: ``logits`` float32 [B, S, V]; ``present.{i}.key|value`` like the past, meant to be bound to its memory.
    """
    from transformers import GPTNeoForCausalLM

    with FakeTensorMode(), _quiet():
        model = GPTNeoForCausalLM(config).eval()
        wrapper = _Decoder(model).eval()
        program = torch.onnx.export(
            wrapper,
            _example_inputs(config),
            dynamic_shapes=_dynamic_shapes(config),
            dynamo=True,
            optimize=False,  # constant folding fails on tensors without values
            verbose=False,
            opset_version=OPSET,
        )
    assert program is not None  # dynamo=True always returns a program
    return _named(program.model, config)


class _Decoder(torch.nn.Module):
    """GPTNeoForCausalLM with flat tensors as inputs and outputs, its attention replaced."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.attentions = [block.attn.attention for block in model.transformer.h]
        for attention, kind in zip(self.attentions, model.config.attention_layers, strict=True):
            window = model.config.window_size if kind == "local" else -1
            attention.forward = _group_query_attention(attention, window)

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
            attention.past = (past[2 * i], past[2 * i + 1], *lengths[self.model.config.attention_layers[i]])
        hidden = self.model.transformer(input_ids=input_ids, position_ids=position_ids, use_cache=False)[0]
        logits = self.model.lm_head(hidden)  # GPTNeoForCausalLM.forward slices in between; KeepLastLogits does that
        return (logits, *(present for attention in self.attentions for present in attention.present))


def _group_query_attention(attention: Any, window: int) -> Callable[..., tuple[torch.Tensor, None]]:
    """A forward for GPTNeoSelfAttention: unscaled scores, and a window of ``window`` keys unless it is -1."""

    def forward(hidden_states: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor, None]:
        query, key, value = (p(hidden_states) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
        past_key, past_value, seqlens_k, total = attention.past
        output, *attention.present = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            (query, key, value, past_key, past_value, seqlens_k, total),
            attrs={
                "num_heads": attention.num_heads,
                "kv_num_heads": attention.num_heads,
                "scale": 1.0,  # GPT-Neo does not divide its scores by sqrt(head_dim)
                "do_rotary": 0,
                "local_window_size": window,
            },
            dtypes=(torch.float32,) * 3,
            shapes=(query.shape, past_key.shape, past_value.shape),
            version=1,
        )
        return attention.out_proj(output), None

    return forward


def _example_inputs(config: Any) -> tuple[Any, ...]:
    batch, sequence, buffer = 2, 3, 7  # any sizes: all of them are symbolic in the graph
    head_dim = config.hidden_size // config.num_heads
    past = [torch.zeros(batch, config.num_heads, buffer, head_dim) for _ in range(2 * config.num_layers)]
    ids = torch.zeros(batch, sequence, dtype=torch.int64)
    lengths, longest = torch.zeros(batch, dtype=torch.int32), torch.zeros((), dtype=torch.int32)
    return ids, ids.clone(), lengths, longest, lengths.clone(), longest.clone(), past


def _dynamic_shapes(config: Any) -> tuple[Any, ...]:
    batch, sequence, buffer = (torch.export.Dim(n) for n in ("batch_size", "sequence_length", "cache_length"))
    past = [{0: batch, 2: buffer}] * (2 * config.num_layers)
    ids = {0: batch, 1: sequence}
    return ids, ids, {0: batch}, None, {0: batch}, None, past


def _named(model: ir.Model, config: Any) -> ir.Model:
    """Give inputs, outputs and initializers the field's names."""
    graph = model.graph
    cache = [f"{i}.{kind}" for i in range(config.num_layers) for kind in ("key", "value")]
    for value, name in zip(graph.inputs[6:], cache, strict=True):
        value.name = f"past_key_values.{name}"
    for value, name in zip(graph.outputs, ["logits", *(f"present.{n}" for n in cache)], strict=True):
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
