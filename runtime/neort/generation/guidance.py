"""Classifier-free guidance: away from what the model says after a negative prompt (Sanchez et al. 2023).

Knows arrays; knows nothing about prompts or how their logits are computed.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Logits
from .logprobs import log_probabilities

__all__ = ["guided"]


def guided(logits: Logits, negative: Logits, scale: float) -> Logits:
    """Return scores, float32 [V], from the logits after the prompt and after the negative one, float32 [V] each.

    transformers' UnbatchedClassifierFreeGuidanceLogitsProcessor, arXiv:2306.17806: differences of log-probabilities
    are multiplied by ``scale``.
    """
    scores, unconditional = log_probabilities(logits), log_probabilities(negative)
    combined: Logits = np.float32(scale) * (scores - unconditional) + unconditional
    return combined
