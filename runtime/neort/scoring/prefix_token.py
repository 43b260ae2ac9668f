"""The token before a text that has no context."""

from __future__ import annotations

from typing import Any

from ..bundle import Bundle
from ..errors import ConfigError
from ..tokenizer import Tokenizer

__all__ = ["prefix_token"]

NAMES = ("bos_token", "eos_token")


def prefix_token(bundle: Bundle, tokenizer: Tokenizer) -> int:
    """The id of the token that begins a text, else of the one that ends it: by tokenizer_config.json or config.json.

    Raises ConfigError where neither names any.
    """
    named = bundle.read_json("tokenizer_config.json") if "tokenizer_config.json" in bundle.file_names else {}
    for name in NAMES:
        token = _content(named.get(name))
        if token in tokenizer.added_tokens:
            return tokenizer.added_tokens[token]
    config = bundle.read_json("config.json")
    for name in NAMES:
        token_id = config.get(f"{name}_id")
        if isinstance(token_id, int) and 0 <= token_id < bundle.spec.vocab_size:
            return token_id
    raise ConfigError(
        f"{bundle.path} names no token that begins or ends a text, so a text needs a context to be scored; give one, "
        "or set bos_token in the checkpoint's tokenizer_config.json and export it again"
    )


def _content(token: Any) -> str:
    """The text of a token that is written as such, or as an object with a content."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""
