"""config.json and generation_config.json of a bundle: the checkpoint's, once neort has read them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from neort.errors import NeortError
from neort.generation import GenerationConfig

from ..checkpoint import Checkpoint, has_file, read_bytes, read_object
from ..errors import CheckpointError
from .manifest import write_json

__all__ = ["write_configs"]

CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"


def write_configs(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy both files, or make the generation_config.json that older checkpoints lack, once the runtime has read it.

    One `UserWarning` names the options that the runtime does not have. Raises CheckpointError for options that the
    runtime refuses.
    """
    (folder / CONFIG).write_bytes(read_bytes(checkpoint.path / CONFIG))
    target = folder / GENERATION_CONFIG
    source = checkpoint.path / GENERATION_CONFIG
    if has_file(source):
        options = read_object(source)
        target.write_bytes(read_bytes(source))
    else:
        source = checkpoint.path / CONFIG
        options = {name: getattr(checkpoint.config, name) for name in ("bos_token_id", "eos_token_id")}
        write_json(target, options)
    _check_options(options, source, checkpoint.dimensions.vocab_size)


def _check_options(options: dict[str, Any], source: Path, vocab_size: int) -> None:
    """Raises CheckpointError for options with which the bundle could not be loaded, or not generate."""
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            config = GenerationConfig.from_hf(options)
    except NeortError as error:
        raise CheckpointError(f"{source}: {error} Correct it there: neort could not load the bundle") from error
    beyond = [token for token in config.eos_token_ids if token >= vocab_size]
    if beyond:
        raise CheckpointError(
            f"{source}: eos_token_id {beyond[0]} is none of the model's {vocab_size:,} tokens; correct it there"
        )
    for each in told:
        warnings.warn(f"{source}: {each.message}", UserWarning, stacklevel=2)
