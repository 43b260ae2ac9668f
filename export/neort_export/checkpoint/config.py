"""config.json: of which architecture a checkpoint is, and whether its sizes can be exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neort.bundle import read_json

from ..architectures import ARCHITECTURES, Architecture
from ..errors import CheckpointError

__all__ = ["read_config"]


def read_config(folder: Path) -> Any:
    """Return transformers' configuration of a checkpoint, checked against what the exporter can build.

    Raises CheckpointError where there is none, for other architectures, and for sizes that contradict each other.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{folder} has no config.json; give a Hugging Face checkpoint folder")
    settings = read_json(file, CheckpointError, "fetch the checkpoint again")
    kind = settings.get("model_type")
    architecture = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    if architecture is None:
        raise CheckpointError(
            f"{folder} is a {kind!r} model; neort exports {' and '.join(map(repr, ARCHITECTURES))} checkpoints only "
            "(note that GPT-NeoX and GPT-J are other architectures)"
        )
    try:
        config = architecture.read_config(settings)
    except Exception as error:  # transformers raises several kinds for inconsistent configurations
        raise CheckpointError(f"{file}: {' '.join(str(error).split())}") from error
    _check(file, config, architecture)
    config._attn_implementation = "eager"  # the reference, and the one that the trace replaces
    return config


def _check(file: Path, config: Any, architecture: Architecture) -> None:
    for name in architecture.sizes:
        value = getattr(config, name)
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{file}: {_key(config, name)} is {value!r}; it must be a whole number of at least 1")
    complaint = architecture.complaint(config)
    if complaint:
        raise CheckpointError(f"{file}: {complaint}")
    width, heads = config.hidden_size, config.num_attention_heads
    width_key, heads_key = _key(config, "hidden_size"), _key(config, "num_attention_heads")
    if width % heads:
        raise CheckpointError(f"{file}: {width_key} {width} is not a multiple of {heads_key} {heads}")
    if width // heads % 8:
        raise CheckpointError(
            f"{file}: head_dim {width // heads} ({width_key} {width} / {heads_key} {heads}) is not a "
            "multiple of 8, which onnxruntime's GroupQueryAttention needs; such a checkpoint cannot be exported"
        )


def _key(config: Any, name: str) -> str:
    """What config.json calls the setting that transformers calls ``name`` in every architecture."""
    key: str = config.attribute_map.get(name, name)
    return key
