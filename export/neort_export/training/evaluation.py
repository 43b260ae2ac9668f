"""How well a model predicts a text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .corpus import END_ID, Corpus
from .model import next_token_loss

__all__ = ["Quality", "evaluate"]


@dataclass(frozen=True)
class Quality:
    """How well a model predicts a text, separators left out."""

    nats_per_token: float
    bits_per_byte: float

    def __str__(self) -> str:
        return f"{self.nats_per_token:.4f} nats per token, {self.bits_per_byte:.4f} bits per byte"


def evaluate(model: Any, corpus: Corpus, batch_size: int = 8) -> Quality:
    """Score every token of a corpus in fp32, in rows of the model's context that do not overlap.

    Separators are context, and are not scored.
    """
    import torch

    tokens = corpus.tokens
    context = model.config.max_position_embeddings
    count = -(-len(tokens) // context)
    padded = np.full(count * context + 1, END_ID, np.int64)
    padded[1 : len(tokens) + 1] = tokens
    rows = np.lib.stride_tricks.sliding_window_view(padded, context + 1)[::context]
    nats = 0.0
    model.eval()
    with torch.no_grad():
        for start in range(0, count, batch_size):
            batch = torch.from_numpy(rows[start : start + batch_size].copy()).to(model.device)
            nats += next_token_loss(model, batch, ignore_index=END_ID, reduction="sum").item()
    return Quality(nats / int(np.count_nonzero(tokens != END_ID)), nats / (math.log(2) * corpus.text_bytes))
