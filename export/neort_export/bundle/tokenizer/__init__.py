"""The tokenizer of a bundle: what transformers makes of a checkpoint's files, as far as neort gives the same ids."""

from __future__ import annotations

from .files import write_tokenizer

__all__ = ["write_tokenizer"]
