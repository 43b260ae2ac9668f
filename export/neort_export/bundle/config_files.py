"""config.json and generation_config.json of a bundle: the checkpoint's, once neort has read them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import transformers

from neort.errors import NeortError
from neort.generation import GenerationConfig
from neort.wording import shortened

from ..checkpoint import Checkpoint, has_file, read_bytes, read_object, said
from ..errors import CheckpointError
from .manifest import write_json

__all__ = ["write_configs"]

CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"
TIED = "tie_word_embeddings"
TOKENS = ("bos_token_id", "eos_token_id")
BOOKKEEPING = ("transformers_version", "use_cache")


def write_configs(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy both files, or make the generation_config.json that older checkpoints lack, once the runtime has read it.

    config.json says whether head and embedding are one in the bundle, where that differs from what it said.

    One `UserWarning` names the options that the runtime does not have. Raises CheckpointError for options that
    transformers does not load, and the runtime refuses, too.
    """
    _write_config(checkpoint, folder / CONFIG)
    target = folder / GENERATION_CONFIG
    source = checkpoint.path / GENERATION_CONFIG
    if has_file(source):
        options = read_object(source)
        target.write_bytes(read_bytes(source))
    else:
        source = checkpoint.path / CONFIG
        options = _old_options(source)
        write_json(target, {name: getattr(checkpoint.config, name) for name in TOKENS} | options)
    _check_options(options, source, checkpoint.dimensions.vocab_size)


def _write_config(checkpoint: Checkpoint, target: Path) -> None:
    source = checkpoint.path / CONFIG
    settings = read_object(source)
    if settings.get(TIED, True) == checkpoint.tied:
        target.write_bytes(read_bytes(source))
    else:
        write_json(target, {**settings, TIED: checkpoint.tied})


def _old_options(source: Path) -> dict[str, Any]:
    """The options among the entries of a config.json, which checkpoints of before 2023 have there, as transformers
    takes them. What it holds for pipelines (task_specific_params) is none of them: transformers' `generate` never
    applies that.
    """
    known = transformers.GenerationConfig().to_dict()
    entries = {name: value for name, value in read_object(source).items() if value is not None}
    options = {name: value for name, value in entries.items() if name in known and not name.startswith("_")}
    for name in BOOKKEEPING:
        options.pop(name, None)
    try:
        transformers.GenerationConfig(**options)
    except Exception as error:  # of many kinds: values that transformers does not load
        raise CheckpointError(f"{source}: {said(error)} Correct it there") from error
    return options


def _check_options(options: dict[str, Any], source: Path, vocab_size: int) -> None:
    """Raises CheckpointError for options with which the bundle could not be loaded; names those without effect."""
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            config = GenerationConfig.from_hf(options)
    except NeortError as error:
        raise CheckpointError(f"{source}: {error} Correct it there: neort could not load the bundle") from error
    sentences = [str(each.message).removeprefix(f"{GENERATION_CONFIG}: ") for each in told]
    beyond = [token for token in config.eos_token_ids if token >= vocab_size]
    if beyond:
        sentences.append(
            f"eos_token_id {shortened(beyond[0])} is none of the model's {vocab_size:,} tokens, and never ends a text."
        )
    if sentences:
        warnings.warn(f"{source}: {' '.join(sentences)}", UserWarning, stacklevel=2)
