"""A tokenizer as llguidance wants it: the bytes of every token id, and the ids of a text.

One more id than the model has stands for the end of a text: whichever token ends it, or none, is the caller's choice.
"""

from __future__ import annotations

from typing import Any

from ...tokenizer import Tokenizer

__all__ = ["make_vocabulary"]


class _Tokens:
    """What llguidance.LLTokenizer asks for (its TokenizerWrapper)."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self.eos_token_id = vocab_size
        self.tokens = [*(tokenizer.all_bytes(token_id) for token_id in range(vocab_size)), b"<end>"]
        special = [token_id for token_id in tokenizer.special_tokens.values() if token_id < vocab_size]
        self.special_token_ids = [*special, vocab_size]
        self._encode = tokenizer.encode_part

    def __call__(self, text: str) -> list[int]:
        """The ids of a text that the grammar leaves no choice about, as the model knows it."""
        return self._encode(text)


def make_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> Any:
    """Return the llguidance.LLTokenizer of a model with ids 0 to ``vocab_size`` - 1.

    Special tokens are no text to it, and neither are ids that the tokenizer lacks. Raises ImportError.
    """
    from llguidance import LLTokenizer

    return LLTokenizer(_Tokens(tokenizer, vocab_size), n_vocab=vocab_size + 1)
