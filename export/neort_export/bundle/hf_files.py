"""The bundle's small files: tokenizer, configuration and generation defaults, as Hugging Face has them."""

from __future__ import annotations

import shutil
from pathlib import Path

from neort.bundle import read_json
from neort.errors import TokenizerError
from neort.tokenizer import Tokenizer

from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from .manifest import write_json

__all__ = ["write_tokenizer"]

TOKENIZER_CONFIG = "tokenizer_config.json"
COPIED = ("config.json", "generation_config.json", "tokenizer.json", TOKENIZER_CONFIG)
MODEL_INPUTS = ["input_ids", "attention_mask"]


def write_tokenizer(checkpoint: Checkpoint, folder: Path) -> Tokenizer:
    """Copy or make the Hugging Face files of a bundle; return the tokenizer, as the runtime will read it.

    Raises CheckpointError when the checkpoint has no tokenizer, or one that the runtime cannot reproduce.
    """
    for name in COPIED:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)
    if not (folder / "tokenizer.json").exists():
        _convert_tokenizer(checkpoint, folder)
    _add_defaults(checkpoint, folder)
    _name_inputs(folder / TOKENIZER_CONFIG)
    try:
        tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    except TokenizerError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error
    if tokenizer.vocab_size > checkpoint.config.vocab_size:
        raise CheckpointError(
            f"{checkpoint.path}: the tokenizer has {tokenizer.vocab_size} entries, the model only "
            f"{checkpoint.config.vocab_size}; use the tokenizer that belongs to these weights"
        )
    return tokenizer


def _convert_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """vocab.json and merges.txt, the older form, to tokenizer.json."""
    vocab, merges = checkpoint.path / "vocab.json", checkpoint.path / "merges.txt"
    if not vocab.is_file() or not merges.is_file():
        raise CheckpointError(
            f"{checkpoint.path} has no tokenizer (tokenizer.json, or vocab.json with merges.txt); "
            "a bundle turns text into tokens, so copy the tokenizer's files there"
        )
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path, use_fast=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def _add_defaults(checkpoint: Checkpoint, folder: Path) -> None:
    """Files that older checkpoints lack."""
    config = checkpoint.config
    ids = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
    defaults = {
        "generation_config.json": ids,
        TOKENIZER_CONFIG: {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.max_position_embeddings,
        },
    }
    for name, content in defaults.items():
        if not (folder / name).exists():
            write_json(folder / name, content)


def _name_inputs(file: Path) -> None:
    """Say what the model reads: transformers 4.57's generic class returns token_type_ids otherwise, which GPT-Neo
    adds to the embeddings without a word.
    """
    config = read_json(file, CheckpointError, "fetch the checkpoint again")
    if config.get("model_input_names") != MODEL_INPUTS:
        write_json(file, {**config, "model_input_names": MODEL_INPUTS})
