"""genai_config.json, by which onnxruntime-genai loads a folder."""

from __future__ import annotations

from typing import Any

__all__ = ["genai_config"]


def genai_config(config: Any, graph_file: str) -> dict[str, Any]:
    """The configuration of a GPTNeoConfig whose portable graph is ``graph_file``.

    onnxruntime-genai throws on a key that it does not know. Windows are the graph's business: a ``sliding_window``
    here would make it cut the cache of all layers.
    """
    context = config.max_position_embeddings
    return {
        "model": {
            "type": "decoder",
            "bos_token_id": _token(config.bos_token_id, config.eos_token_id),
            "eos_token_id": _token(config.eos_token_id),
            "pad_token_id": _token(config.pad_token_id, config.eos_token_id),
            "vocab_size": config.vocab_size,
            "context_length": context,
            "decoder": _decoder(config, graph_file),
        },
        "search": {"do_sample": False, "max_length": context, "past_present_share_buffer": True},
    }


def _decoder(config: Any, graph_file: str) -> dict[str, Any]:
    return {
        "session_options": {"provider_options": []},  # the CPU
        "filename": graph_file,
        "head_size": config.hidden_size // config.num_heads,
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "position_ids": "position_ids",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }


def _token(*candidates: Any) -> int:
    """The first that is set."""
    return next((token for token in candidates if token is not None), 0)
