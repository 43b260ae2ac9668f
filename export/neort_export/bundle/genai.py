"""genai_config.json, by which onnxruntime-genai loads a folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neort.bundle import graph_names as names

from ..architectures import stored_head_dim

__all__ = ["genai_config"]

NO_TOKEN = -1  # padding that no prompt contains; as an index it is the last row of the embedding, so it does no harm


def genai_config(config: Any, generation: Mapping[str, Any], graph_file: str) -> dict[str, Any]:
    """The contents for a model with one of transformers' configurations and the portable graph ``graph_file``.

    ``generation`` is the bundle's generation_config.json, which decides what ends a text, here as in neort.
    onnxruntime-genai throws on a key that it does not know. There is no ``sliding_window``: it would make
    onnxruntime-genai cut the cache of global layers too; the graph itself applies the windows of local ones.
    """
    context = config.max_position_embeddings
    ends = _tokens(generation.get("eos_token_id"), config.vocab_size)
    begins = {} if config.bos_token_id is None else {"bos_token_id": config.bos_token_id}
    return {
        "model": {
            "type": "decoder",
            **begins,
            "eos_token_id": ends,
            "pad_token_id": _padding(config, ends),
            "vocab_size": config.vocab_size,
            "context_length": context,
            "decoder": _decoder(config, graph_file),
        },
        "search": {"do_sample": False, "max_length": context, "past_present_share_buffer": True},
    }


def _decoder(config: Any, graph_file: str) -> dict[str, Any]:
    key, value = names.layer_parts("%d")
    return {
        "session_options": {"session.x64quantprecision": "1"},  # exact int8 products on x86 without VNNI too
        "filename": graph_file,
        "head_size": stored_head_dim(config.hidden_size // config.num_attention_heads),
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "inputs": {
            "input_ids": names.INPUT_IDS,
            "attention_mask": names.ATTENTION_MASK,
            "position_ids": names.POSITION_IDS,
            "past_key_names": names.past(key),
            "past_value_names": names.past(value),
        },
        "outputs": {
            "logits": names.LOGITS,
            "present_key_names": names.present(key),
            "present_value_names": names.present(value),
        },
    }


def _tokens(ids: Any, vocab_size: int) -> list[int]:
    """One id, several or none as a list of those that the model can generate; others make onnxruntime-genai throw.

    It insists on one: where there is none, the last of the vocabulary has to serve.
    """
    several = ids if isinstance(ids, list) else [ids]
    numbers = [int(token) for token in several if type(token) in (int, float) and token in range(vocab_size)]
    return numbers or [vocab_size - 1]


def _padding(config: Any, ends: list[int]) -> int:
    """The model's own padding token; the end-of-text token is none, for onnxruntime-genai drops a prompt's last
    tokens where they equal the padding.
    """
    token = config.pad_token_id
    usable = isinstance(token, int) and token not in (*ends, config.bos_token_id, config.eos_token_id)
    return token if usable and 0 <= token < config.vocab_size else NO_TOKEN
