"""config.json: of which architecture a checkpoint is, and whether its sizes can be exported."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from neort.wording import shortened

from ..architectures import ARCHITECTURES, Architecture
from ..errors import CheckpointError
from .reading import has_file, read_object, said
from .remedies import without_config
from .settings import REMEDY, SIZE, checked_settings, is_size

__all__ = ["check_layers", "read_config"]

MOST_LAYERS = 10_000


def read_config(folder: Path) -> Any:
    """Return transformers' configuration of a checkpoint, checked against what the exporter can build.

    Raises CheckpointError where there is none, for other architectures, and for sizes that contradict each other.
    """
    file = folder / "config.json"
    if not has_file(file):
        raise CheckpointError(without_config(folder))
    settings = read_object(file)
    kind = settings.get("model_type")
    architecture = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    if architecture is None:
        if kind is None:
            raise CheckpointError(_without_kind(file, settings))
        raise CheckpointError(
            f"{folder} is a {shortened(kind)} model; neort exports {' and '.join(map(repr, ARCHITECTURES))} "
            "checkpoints only (note that GPT-NeoX and GPT-J are other architectures)"
        )
    _refuse_quantized(file, settings)
    _refuse_other_file(file, settings)
    config = _read(file, architecture, checked_settings(file, settings))
    _check(file, config, architecture)
    if remark := architecture.remark(config):
        warnings.warn(f"{file}: {remark}", UserWarning, stacklevel=3)
    config.architectures = settings.get("architectures")
    config._attn_implementation = "eager"  # the reference, and the one that the trace replaces
    return config


def check_layers(folder: Path, config: Any, architecture: Architecture) -> None:
    """Raise CheckpointError where transformers cannot make a layer of settings whose sizes are sound.

    Its weights take no memory.
    """
    with _told(folder / "config.json"), torch.device("meta"):
        architecture.layer(config, 0)


def _refuse_quantized(file: Path, settings: dict[str, Any]) -> None:
    quantized = settings.get("quantization_config")
    if quantized is not None:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        by = f" by {shortened(method)}" if method else ""
        raise CheckpointError(
            f"{file}: the weights are quantized{by} (quantization_config); neort quantizes float "
            "weights itself: give the checkpoint that these were made of"
        )


def _refuse_other_file(file: Path, settings: dict[str, Any]) -> None:
    """Raises CheckpointError where transformers takes the weights from a file of another name."""
    other = settings.get("transformers_weights")
    if other is not None:
        raise CheckpointError(
            f"{file}: transformers_weights is {shortened(other)}, the file that transformers reads; neort reads "
            "model.safetensors and pytorch_model.bin only: name that file so, and remove the setting"
        )


def _without_kind(file: Path, settings: dict[str, Any]) -> str:
    """The sentence for a config.json of transformers' first years, which says by other keys what it is."""
    kind = "gpt2" if "n_embd" in settings else "gpt_neo" if "attention_types" in settings else ""
    line = f'"model_type": "{kind}"' if kind else f"one of {', '.join(ARCHITECTURES)}"
    return f"{file} has no model_type; if these are weights of such a model, write {line} there"


def _read(file: Path, architecture: Architecture, settings: dict[str, Any]) -> Any:
    with _told(file):
        return architecture.read_config(settings)


@contextlib.contextmanager
def _told(file: Path) -> Iterator[None]:
    """One sentence for what transformers and torch raise for settings that they cannot use, several kinds of errors."""
    try:
        yield
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(f"{file}: {said(error)}; {REMEDY}") from error


def _check(file: Path, config: Any, architecture: Architecture) -> None:
    for name in architecture.sizes:
        value = getattr(config, name)
        if not is_size(value):
            raise CheckpointError(f"{file}: {_key(config, name)} is {shortened(value)}; it must be {SIZE}; {REMEDY}")
    with _told(file):
        epsilon = architecture.norm_epsilon(config)
    if not 0 <= epsilon < math.inf:
        raise CheckpointError(
            f"{file}: the layer norms' epsilon is {epsilon}; it must be a number of at least 0; {REMEDY}"
        )
    if config.num_hidden_layers > MOST_LAYERS:
        raise CheckpointError(
            f"{file}: {_key(config, 'num_hidden_layers')} is {config.num_hidden_layers:,}; models have at most "
            f"{MOST_LAYERS:,} layers; {REMEDY}"
        )
    complaint = architecture.complaint(config)
    if complaint:
        raise CheckpointError(f"{file}: {complaint}; {REMEDY}")
    width, heads = config.hidden_size, config.num_attention_heads
    width_key, heads_key = _key(config, "hidden_size"), _key(config, "num_attention_heads")
    if width % heads:
        raise CheckpointError(f"{file}: {width_key} {width} is not a multiple of {heads_key} {heads}")


def _key(config: Any, name: str) -> str:
    """What config.json calls the setting that transformers calls ``name`` in every architecture."""
    key: str = config.attribute_map.get(name, name)
    return key
