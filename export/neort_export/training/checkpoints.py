"""What a run takes from other checkpoints: the tokenizer, the weights to begin with, and the teacher.

All of it is read, and compared with the options, before any text is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from neort.bundle import MANIFEST

from .corpus import END_ID, END_OF_TEXT, TrainingError, train_tokenizer
from .model import build_model, fuse_attention
from .options import Options

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["load_or_train_tokenizer", "load_teacher", "make_model"]

TOKENIZER = "tokenizer.json"
SHAPE = {
    "vocab_size": None,
    "max_position_embeddings": "--context",
    "hidden_size": "--hidden-size",
    "num_layers": "--num-layers",
    "num_heads": "--num-heads",
    "window_size": "--window",
    "attention_layers": None,
    "intermediate_size": None,
    "activation_function": None,
    "layer_norm_epsilon": None,
    "tie_word_embeddings": None,
}
"""What of a checkpoint's config has to agree for its weights to be taken, and which option says it."""


def load_or_train_tokenizer(options: Options) -> Tokenizer:
    """Return the tokenizer that --tokenizer names, or the teacher's or --init-from's, or one of the texts' own.

    Raises TrainingError for a file that is none, for one whose separator has another id than END_ID, and for a
    checkpoint whose own tokenizer is another one.
    """
    checkpoints = {"--teacher": options.teacher, "--init-from": options.init_from}
    named = {option: _tokenizer_of(option, folder) for option, folder in checkpoints.items() if folder is not None}
    files = {"--tokenizer": options.tokenizer, **named} if options.tokenizer else named
    if not files:
        return train_tokenizer(options.texts, options.vocab_size)
    if not any(files.values()):
        raise TrainingError(f"{' and '.join(files)} have no {TOKENIZER}; give one by --tokenizer")
    chosen, *others = ((option, file, _read_tokenizer(option, file)) for option, file in files.items() if file)
    for option, file, tokenizer in others:
        if tokenizer.get_vocab() != chosen[2].get_vocab():
            raise TrainingError(
                f"{option} {file.parent} has other tokens than {chosen[0]}'s {chosen[1]}; train one of them with the "
                "other's, by --tokenizer"
            )
    return chosen[2]


def make_model(options: Options, vocab_size: int) -> Any:
    """Return a model with random weights, or with those of --init-from.

    Raises TrainingError for a folder that holds no checkpoint, or one of another shape.
    """
    model = build_model(options, vocab_size)
    if options.init_from is None:
        return model
    weights = _load("--init-from", options.init_from)
    for name, option in SHAPE.items():
        found, wanted = getattr(weights.config, name), getattr(model.config, name)
        if found != wanted:
            remedy = f"; give {option} {found}" if option else ""
            raise TrainingError(f"--init-from {options.init_from} has {name} {found}, this model {wanted}{remedy}")
    model.load_state_dict(weights.state_dict())
    return model


def load_teacher(options: Options, vocab_size: int) -> Any:
    """Return the model that --teacher names, or None.

    Raises TrainingError for a folder that holds none, or one of other tokens or fewer positions.
    """
    if options.teacher is None:
        return None
    teacher = _load("--teacher", options.teacher)
    config = teacher.config
    if config.vocab_size != vocab_size or config.max_position_embeddings < options.context:
        raise TrainingError(
            f"--teacher {options.teacher} has {config.vocab_size} tokens and {config.max_position_embeddings} "
            f"positions, this model {vocab_size} and {options.context}: take its tokenizer and a --context it has"
        )
    fuse_attention(teacher)
    return teacher


def _tokenizer_of(option: str, folder: Path) -> Path | None:
    """A checkpoint's tokenizer; None where it has none. Raises TrainingError where there is no checkpoint."""
    if not (folder / "config.json").is_file():
        raise TrainingError(f"{option} {folder} is no folder with a checkpoint; fetch one from the hub first")
    if (folder / MANIFEST).is_file():
        raise TrainingError(f"{option} {folder} is a bundle; give the checkpoint that it was made of")
    file = folder / TOKENIZER
    return file if file.is_file() else None


def _read_tokenizer(option: str, file: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more specific
        raise TrainingError(f"{option} {file}: {error}") from error
    if tokenizer.token_to_id(END_OF_TEXT) != END_ID:
        raise TrainingError(f"{option} {file}: {END_OF_TEXT} is not its token {END_ID}")
    return tokenizer


def _load(option: str, folder: Path) -> Any:
    """Return a checkpoint's model. Raises TrainingError for a folder that holds none, or not all of its weights."""
    from transformers import GPTNeoForCausalLM

    try:
        model, found = GPTNeoForCausalLM.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # transformers and safetensors raise what they like
        said = str(error).partition("\n")[0]
        raise TrainingError(f"{option} {folder}: {type(error).__name__}: {said}") from error
    if missing := sorted(found["missing_keys"]):
        raise TrainingError(f"{option} {folder} lacks {len(missing)} of its weights, as {missing[0]}; copy it again")
    return model
