"""One run: from text files to a checkpoint as Hugging Face has them.

Documents are separated by <|endoftext|>; so are files. transformers loads the checkpoint, neort-export makes a bundle
of it. Knows nothing about bundles. With a number of steps, the same texts, options, device and threads give the same
weights; with minutes they depend on the machine's speed.
"""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neort.errors import MissingExtraError

from ..staging import staged_folder
from .card import Result, describe
from .corpus import END_ID, END_OF_TEXT, Corpus, TokenIds, TrainingError, encode, train_tokenizer
from .evaluation import evaluate
from .loop import Progress, fit, reproducible
from .model import begin_for_muon, build_model, fold_scale, fuse_attention, save, set_dropout
from .options import Options
from .resuming import saved_path

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["run"]

SHAPE = (
    *("vocab_size", "max_position_embeddings", "hidden_size", "num_heads"),
    *("attention_types", "window_size", "intermediate_size"),
)
"""What of a checkpoint's config has to agree for its weights to be taken."""


def require_libraries() -> None:
    """Raise MissingExtraError if torch or transformers is not installed."""
    try:
        for library in ("torch", "transformers", "tokenizers"):
            import_module(library)
    except ImportError as error:
        raise MissingExtraError(
            f'training needs torch and transformers ({error}): pip install "neort[export]"'
        ) from error


def load_or_train_tokenizer(options: Options) -> Tokenizer:
    """Return the tokenizer that --tokenizer names, or the teacher's or --init-from's, or one of the texts' own.

    Raises TrainingError for a file that is none, or whose separator has another id than END_ID.
    """
    checkpoint = options.teacher or options.init_from
    file = options.tokenizer or (checkpoint and checkpoint / "tokenizer.json")
    if file is None:
        return train_tokenizer(options.texts, options.vocab_size)
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more specific
        raise TrainingError(f"--tokenizer {file}: {error}") from error
    if tokenizer.token_to_id(END_OF_TEXT) != END_ID:
        raise TrainingError(f"--tokenizer {file}: {END_OF_TEXT} is not its token {END_ID}")
    return tokenizer


def load_checkpoint(option: str, folder: Path) -> Any:
    """Return the model of a checkpoint. Raises TrainingError, naming the option, for a folder that holds none."""
    from transformers import GPTNeoForCausalLM

    try:
        return GPTNeoForCausalLM.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and safetensors raise what they like
        raise TrainingError(f"{option} {folder}: {type(error).__name__}: {error}") from error


def make_model(options: Options, vocab_size: int) -> Any:
    """Return a model with random weights, or with those of --init-from.

    Raises TrainingError for a folder that holds no checkpoint, or one of another shape.
    """
    model = build_model(options, vocab_size)
    if options.init_from is None:
        return model
    weights = load_checkpoint("--init-from", options.init_from)
    for name in SHAPE:
        found, wanted = getattr(weights.config, name), getattr(model.config, name)
        if found != wanted:
            raise TrainingError(f"--init-from {options.init_from} has {name} {found}, this model {wanted}")
    model.load_state_dict(weights.state_dict())
    return model


def load_teacher(options: Options, vocab_size: int) -> Any:
    """Return the model that --teacher names, or None.

    Raises TrainingError for a folder that holds none, or one of other tokens or fewer positions.
    """
    if options.teacher is None:
        return None
    teacher = load_checkpoint("--teacher", options.teacher)
    config = teacher.config
    if config.vocab_size != vocab_size or config.max_position_embeddings < options.context:
        raise TrainingError(
            f"--teacher {options.teacher} has {config.vocab_size} tokens and {config.max_position_embeddings} "
            f"positions, this model {vocab_size} and {options.context}: take its tokenizer and a --context it has"
        )
    fuse_attention(teacher)
    return teacher


def train(model: Any, tokens: TokenIds, options: Options) -> Progress:
    """Train a model in place: its weights are random, or --init-from's."""
    teacher = load_teacher(options, model.config.vocab_size)
    scale = None
    if options.optimizer == "muon":  # whose steps have one length, so that scores must grow by it as slowly as the rest
        scale = (options.hidden_size // options.num_heads) ** -0.5
        if options.init_from is None:
            begin_for_muon(model)
        else:
            fold_scale(model, 1 / scale)
    fuse_attention(model, scale)
    set_dropout(model, options.dropout)
    progress = fit(model, tokens, options, teacher and teacher.to(model.device))
    if scale is not None:
        fold_scale(model, scale)
        fuse_attention(model)
    return progress


def encode_corpora(options: Options, tokenizer: Tokenizer, scratch: Path) -> tuple[Corpus, Corpus | None]:
    """Return the training texts and the validation text as token ids, kept in files in ``scratch``.

    Raises TrainingError if either is too short.
    """
    corpus = encode(options.texts, tokenizer, scratch / "train.ids")
    if len(corpus.tokens) <= options.context:
        raise TrainingError(
            f"the texts hold {len(corpus.tokens)} tokens; --context {options.context} needs "
            f"{options.context + 1}: give more text or a smaller --context"
        )
    if options.valid is None:
        return corpus, None
    held_out = encode([options.valid], tokenizer, scratch / "valid.ids")
    if not held_out.text_bytes:
        raise TrainingError(f"--valid {options.valid} holds no text")
    return corpus, held_out


def run(options: Options) -> Result:
    """Train, evaluate and save one checkpoint, and report on standard output.

    Raises TrainingError (texts, target, an infinite loss), ConfigError (device) or MissingExtraError.
    """
    require_libraries()
    with (
        staged_folder(options.output, force=options.force, marker="config.json") as folder,
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        reproducible(options) as device,
    ):
        tokenizer = load_or_train_tokenizer(options)
        corpus, held_out = encode_corpora(options, tokenizer, Path(scratch))
        model = make_model(options, tokenizer.get_vocab_size()).to(device)
        kinds, parameters = tokenizer.get_vocab_size(), model.num_parameters()
        print(f"{len(corpus.tokens):,} tokens of {kinds:,} kinds; {parameters:,} parameters, on {device}")
        progress = train(model, corpus.tokens, options)
        result = Result(
            checkpoint=options.output,
            parameters=parameters,
            tokens=len(corpus.tokens),
            losses=progress.losses,
            loss=progress.recent_loss,
            tokens_per_second=progress.tokens_per_second,
            valid=evaluate(model, held_out) if held_out else None,
        )
        save(model, tokenizer, folder, options.sampling)
        (folder / "README.md").write_text(describe(options, result), encoding="utf-8")
    saved_path(options).unlink(missing_ok=True)
    print(f"wrote {options.output}" + (f"; {options.valid}: {result.valid}" if result.valid else ""))
    return result
