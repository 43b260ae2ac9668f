"""Text to token ids and back: byte-level BPE, what it refuses, and decoding of a stream."""

from __future__ import annotations

from .bpe import Tokenizer
from .detokenizer import TextStream

__all__ = ["TextStream", "Tokenizer"]
