"""Files of prompts on a cluster, by Ray Data: ``python -m neort.integrations.ray_data INPUT ... OUTPUT``.

    python -m neort.integrations.ray_data prompts/ results/ --bundle DIR --workers 8 --num-threads 4 --seed 1

    records of the input -> parts, some hundred records each -> actors, one model each -> a file for each part

A part's file has the name of its first record, has the same bytes whoever writes it, and is there as a whole or not at
all. So it does not matter how often a part was computed, by an actor or a node that was killed, or by one that only
seemed dead; and what is done is what is there. In a program `generate_dataset` and its siblings add columns to a
dataset of any origin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .datasets import Actors, embed_dataset, generate_dataset, score_dataset

__all__ = ["Actors", "embed_dataset", "generate_dataset", "score_dataset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(".libraries", __name__)  # first: it has the sentence about what is missing
    return getattr(import_module(".datasets", __name__), name)
