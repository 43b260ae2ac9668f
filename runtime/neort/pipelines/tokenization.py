"""What transformers' tokenizers say about the length of a text."""

from __future__ import annotations

from typing import Any

from ..errors import BundleError, ConfigError
from ..model import Model
from ..wording import shortened

__all__ = ["model_max_length", "truncated"]

LONGEST_FIRST = (True, "longest_first", "only_first")
AS_IT_IS = (None, False, "do_not_truncate")


def model_max_length(model: Model) -> int:
    """The tokens of the longest text: as tokenizer_config.json has it, but no more than the model's positions."""
    positions = model.spec.max_position_embeddings
    try:
        stated = model.bundle.read_json("tokenizer_config.json").get("model_max_length")
    except BundleError:
        return positions
    return min(stated, positions) if isinstance(stated, int) and stated > 0 else positions


def truncated(ids: list[int], truncation: Any, length: int) -> list[int]:
    """The first ``length`` ids where ``truncation`` asks for that. Raises ConfigError for odd values."""
    if truncation in AS_IT_IS:
        return ids
    if truncation in LONGEST_FIRST:
        return ids[:length]
    raise ConfigError(f"truncation is {shortened(truncation)}; use True, which leaves out a text's end, or False")
