"""POST /tokenize and /detokenize, and GET /tokenizer_info, as vLLM has them."""

from __future__ import annotations

from typing import Any

from ..protocol.logprobs import TokenNames
from ..protocol.requests import DetokenizeRequest, TokenizeRequest
from .contract import ServedModel

__all__ = ["described", "detokenized", "tokenized"]


def tokenized(request: TokenizeRequest, served: ServedModel) -> dict[str, Any]:
    """The token ids of a text."""
    tokenizer = served.model.tokenizer
    tokens = tokenizer.encode(request.prompt, add_special_tokens=request.add_special_tokens)
    names = TokenNames(tokenizer.all_bytes)
    return {
        "count": len(tokens),
        "max_model_len": served.model.spec.max_position_embeddings,
        "tokens": tokens,
        "token_strs": [names.name(token_id) for token_id in tokens] if request.return_token_strs else None,
    }


def detokenized(request: DetokenizeRequest, served: ServedModel) -> dict[str, Any]:
    """The text of token ids, special tokens' included."""
    return {"prompt": served.model.tokenizer.decode(request.tokens, skip_special_tokens=False)}


def described(served: ServedModel) -> dict[str, Any]:
    """What there is to know about a tokenizer."""
    model = served.model
    names = TokenNames(model.tokenizer.all_bytes)
    ends, prefix = model.generation_config.eos_token_ids, model.tokenizer.prefix_ids
    eos = names.name(ends[0]) if ends else None
    return {
        "model": served.name,
        "tokenizer_class": "GPT2Tokenizer",
        "vocab_size": model.tokenizer.vocab_size,
        "max_model_len": model.spec.max_position_embeddings,
        "bos_token": names.name(prefix[0]) if prefix else eos,  # GPT's models have one token for both
        "eos_token": eos,
        "eos_token_ids": list(ends),
        "eos_tokens": [names.name(token_id) for token_id in ends],
        "added_tokens": model.tokenizer.added_tokens,
        "special_tokens": model.tokenizer.special_tokens,
        "chat_template": served.chat_template,
    }
