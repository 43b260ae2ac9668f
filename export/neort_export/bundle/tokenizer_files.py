"""tokenizer.json and tokenizer_config.json of a bundle, read as the runtime will read them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from neort.errors import TokenizerError
from neort.tokenizer import Tokenizer

from ..checkpoint import LARGE_FILE, Checkpoint, has_file, read_bytes, read_object, said
from ..errors import CheckpointError
from .manifest import write_json

__all__ = ["write_tokenizer"]

CONFIG = "config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
OLD_TOKENIZER = ("vocab.json", "merges.txt")
READ_WITH_IT = (CONFIG, TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json")
SCRATCH = "old-tokenizer"
MODEL_INPUTS = ["input_ids", "attention_mask"]


def write_tokenizer(checkpoint: Checkpoint, folder: Path) -> Tokenizer:
    """Copy or make the tokenizer's files; return the tokenizer, as the runtime will read it.

    Raises CheckpointError when the checkpoint has no tokenizer, or one that the runtime cannot reproduce.
    """
    _write_tokenizer_config(checkpoint, folder / TOKENIZER_CONFIG)
    source = checkpoint.path / TOKENIZER
    if has_file(source):
        (folder / TOKENIZER).write_bytes(read_bytes(source, LARGE_FILE))
    else:
        source = checkpoint.path / OLD_TOKENIZER[0]
        _convert_tokenizer(checkpoint, folder)
    try:
        tokenizer = Tokenizer(read_object(folder / TOKENIZER, LARGE_FILE))
    except (CheckpointError, TokenizerError) as error:
        raise CheckpointError(f"{source}: {str(error).replace(str(folder), str(checkpoint.path))}") from error
    if tokenizer.vocab_size > checkpoint.config.vocab_size:
        raise CheckpointError(
            f"{checkpoint.path}: the tokenizer has {tokenizer.vocab_size} entries, the model only "
            f"{checkpoint.config.vocab_size}; use the tokenizer that belongs to these weights"
        )
    return tokenizer


def _convert_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """vocab.json and merges.txt, the older form, to tokenizer.json."""
    if not all(has_file(checkpoint.path / name) for name in OLD_TOKENIZER):
        raise CheckpointError(
            f"{checkpoint.path} has no tokenizer (tokenizer.json, or vocab.json with merges.txt); "
            "a bundle turns text into tokens, so copy the tokenizer's files there"
        )
    vocab = checkpoint.path / OLD_TOKENIZER[0]
    ids = list(read_object(vocab, LARGE_FILE).values())
    if not all(type(i) is int for i in ids) or sorted(ids) != list(range(len(ids))):
        raise CheckpointError(
            f"{vocab} does not number its {len(ids):,} tokens from 0 on without gaps; restore it, or save the "
            "tokenizer as tokenizer.json"
        )
    from transformers import AutoTokenizer

    scratch = folder / SCRATCH  # transformers opens whatever has the name of a file that it knows
    scratch.mkdir()
    for name in (*OLD_TOKENIZER, *READ_WITH_IT):
        if has_file(checkpoint.path / name):
            (scratch / name).write_bytes(read_bytes(checkpoint.path / name, LARGE_FILE))
    try:
        tokenizer = AutoTokenizer.from_pretrained(scratch, use_fast=True, trust_remote_code=False)
        tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))
    except MemoryError:
        raise
    except Exception as error:  # transformers and tokenizers raise several kinds, for what json and the files hold
        why = f"{type(error).__name__}: {said(error)}".replace(str(scratch), str(checkpoint.path))
        raise CheckpointError(
            f"{checkpoint.path}: vocab.json and merges.txt do not make a tokenizer ({why}); "
            "restore them, or save the tokenizer as tokenizer.json"
        ) from error
    finally:
        shutil.rmtree(scratch)


def _write_tokenizer_config(checkpoint: Checkpoint, target: Path) -> None:
    """Copy or make the file, and say what the model reads.

    transformers 4.57's generic class returns token_type_ids otherwise, which GPT-Neo adds to the embeddings without a
    word.
    """
    source = checkpoint.path / TOKENIZER_CONFIG
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": checkpoint.config.max_position_embeddings,
    }
    if has_file(source):
        settings = read_object(source)
        target.write_bytes(read_bytes(source))
    if settings.get("model_input_names") != MODEL_INPUTS:
        write_json(target, {**settings, "model_input_names": MODEL_INPUTS})
