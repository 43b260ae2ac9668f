"""The model that is trained: a small GPT-Neo with random weights, whose layers are global and local in turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..architectures import GPTNeo
from .corpus import END_ID, END_OF_TEXT
from .options import Options

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

__all__ = ["build_model", "fuse_attention", "next_token_loss", "save"]

ARCHITECTURE = GPTNeo()


def build_model(options: Options, vocab_size: int) -> Any:
    """Make transformers' causal language model with random weights."""
    settings = {
        "vocab_size": vocab_size,
        "max_position_embeddings": options.context,
        "hidden_size": options.hidden_size,
        "num_heads": options.num_heads,
        **ARCHITECTURE.layers_in_turn(options.num_layers),
        "window_size": options.window,
        "bos_token_id": END_ID,
        "eos_token_id": END_ID,
        "pad_token_id": END_ID,
    }
    return ARCHITECTURE.causal_lm(ARCHITECTURE.read_config(settings))


def fuse_attention(model: Any) -> None:
    """Replace the attention of transformers' GPT-Neo by torch's fused kernel: 1.4 times the speed on CPUs."""
    from torch.nn.functional import scaled_dot_product_attention

    def fused(attention: Any, local: bool, scale: float) -> Any:
        def attend(
            query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object
        ) -> tuple[torch.Tensor, None]:
            length = query.shape[-2]
            mask = ARCHITECTURE.mask(attention, length) if local else None
            product = scaled_dot_product_attention(query, key, value, mask, is_causal=not local, scale=scale)
            return product, None

        return attend

    kinds = ARCHITECTURE.dimensions(model.config).attention_layers
    for layer, attention in enumerate(ARCHITECTURE.attentions(model)):
        scale = ARCHITECTURE.attention_scale(model.config, layer)
        ARCHITECTURE.replace_mixing(attention, fused(attention, kinds[layer] == "local", scale))


def next_token_loss(model: Any, rows: torch.Tensor, **options: Any) -> torch.Tensor:
    """Return the cross entropy, in nats, of the tokens of each row [B, S + 1] given those before them."""
    from torch.nn.functional import cross_entropy

    hidden = model.base_model(rows[:, :-1], use_cache=False)[0]
    logits = model.get_output_embeddings()(hidden).float()
    return cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), **options)


def save(model: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the checkpoint: safetensors, config, generation config and the tokenizer's two files."""
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    settings["model_max_length"] = model.config.max_position_embeddings
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
