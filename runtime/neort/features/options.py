"""The options of vectors for texts, and what they mean for a text and for a vector.

Knows arrays; knows nothing about models.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from ..arrays import Floats, Ids
from ..errors import ArgumentTypeError, ConfigError, PromptError
from ..wording import shortened

__all__ = ["Pooling", "Truncation", "check_features", "checked_layer", "fitting", "normalized"]

Pooling = Literal["mean", "last", "none"]
Truncation = Literal["left", "right"]


def check_features(pooling: object, normalize: object, truncation: object) -> None:
    """Raise ArgumentTypeError or ConfigError for arguments of `Model.embed` that have no meaning."""
    if pooling not in get_args(Pooling):
        raise ConfigError(f"pooling is {shortened(pooling)}; it must be one of {', '.join(get_args(Pooling))}")
    if not isinstance(normalize, (bool, np.bool_)):
        raise ArgumentTypeError(f"normalize is True or False, not {type(normalize).__name__}")
    if truncation is not None and truncation not in get_args(Truncation):
        raise ConfigError(
            f"truncation is {shortened(truncation)}; it must be left or right, the end that is cut off, or None"
        )


def checked_layer(layer: Any, num_layers: int) -> int:
    """An index into transformers' hidden_states, counted from the front. Raises ArgumentTypeError, ConfigError."""
    if isinstance(layer, bool) or not isinstance(layer, (int, np.integer)):
        raise ArgumentTypeError(f"layer is an integer, not {type(layer).__name__}")
    if not -num_layers - 1 <= layer <= num_layers:
        raise ConfigError(
            f"layer is {shortened(int(layer))}; this model has 0 (the embeddings) to {num_layers} (after the last "
            f"normalization), or {-num_layers - 1} to -1"
        )
    return int(layer) % (num_layers + 1)


def fitting(token_ids: Ids, positions: int, truncation: Truncation | None, name: str) -> Ids:
    """The tokens of a text, as many as the model has positions for.

    Raises PromptError where there is none, or too many and no ``truncation``; ``name`` says which text it is.
    """
    if len(token_ids) == 0:
        raise PromptError(
            f'{name} is empty, so there is nothing to embed; give one token at least, "<|endoftext|>" say'
        )
    if len(token_ids) <= positions:
        return token_ids
    if truncation is None:
        raise PromptError(
            f"{name} has {len(token_ids)} tokens, and the model has {positions} positions; embed it in parts, or say "
            'truncation="right" to leave out its end, "left" its beginning'
        )
    return token_ids[-positions:] if truncation == "left" else token_ids[:positions]


def normalized(rows: Floats) -> Floats:
    """Vectors [K] or [T, K] made one long; zeros stay zeros."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    scaled: Floats = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return scaled
