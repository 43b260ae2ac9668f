"""Which stored tensor becomes which parameter: the answer of transformers' own loader, by names alone.

Renames, prefixes, keys to ignore and tied weights differ between releases of transformers, and the model is what the
installed one makes of a checkpoint. So its loader runs on a twin: the same configuration but for sizes of 1, a tensor
of a few numbers for each stored one, and in them the number of the stored one. The parameters of the model that it
returns tell where they come from. No weight is read.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ...architectures import Architecture
from ..tensors import StoredTensor

__all__ = ["as_transformers_loads"]

FIRST = 16  # of the numbers in a twin's tensors: above what modules begin with, of those that float32 holds exactly
WIDTHS = ("hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings", "intermediate_size", "n_inner")


def as_transformers_loads(
    architecture: Architecture, config: Any, tensors: Mapping[str, StoredTensor]
) -> dict[str, str]:
    """Return parameters and buffers by name, each with the name of the tensor in the files that it takes.

    Those that take none, and would begin with random numbers, are not among them. Raises what transformers raises for
    names that contradict each other.
    """
    small = _small(config)
    with torch.device("meta"):
        kind = type(architecture.causal_lm(copy.deepcopy(small)))
        twin = kind(copy.deepcopy(small))  # whose linear layers are transformers' own
    shapes = {name: tuple(tensor.shape) for name, tensor in twin.state_dict().items()}
    ends = {name.partition(".")[2]: shape for name, shape in shapes.items()} | shapes
    names = list(tensors)
    state = {
        name: torch.full(_shape_of(name, len(tensors[name].shape), ends), float(FIRST + number))
        for number, name in enumerate(names)
    }
    with _quiet():
        loaded, info = kind.from_pretrained(
            None,
            config=small,
            state_dict=state,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    missing = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    return {
        name: names[int(tensor.flatten()[0]) - FIRST]
        for name, tensor in loaded.state_dict().items()
        if name not in missing and tensor.device.type != "meta" and tensor.flatten()[0] >= FIRST
    }


def _small(config: Any) -> Any:
    """The configuration with as many layers, but sizes of 1."""
    small = copy.deepcopy(config)
    for name in WIDTHS:
        if getattr(small, name, None) is not None:
            setattr(small, name, 1)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(small, name, None)
    return small


def _shape_of(name: str, rank: int, ends: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape in the twin of a stored tensor: that of the parameter with which its name ends."""
    parts = name.split(".")
    tails = (".".join(parts[start:]) for start in range(len(parts)))
    return next((ends[tail] for tail in tails if tail in ends), (1,) * rank)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what transformers says about the twin: no log line, no warning, no progress bar."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging as transformers_logging

    bars, no_hub_bars = transformers_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    logger = logging.getLogger("transformers")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            logger.setLevel(level)
            if bars:
                transformers_logging.enable_progress_bar()
            if no_hub_bars:
                disable_progress_bars()
