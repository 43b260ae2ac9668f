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
from .checkpoints import load_or_train_tokenizer, load_teacher, make_model
from .corpus import Corpus, TokenIds, TrainingError, encode
from .evaluation import evaluate
from .loop import Progress, fit, reproducible
from .model import begin_for_muon, fold_scale, fuse_attention, save, set_dropout
from .options import Options
from .resuming import saved_path

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["run"]


def require_libraries() -> None:
    """Raise MissingExtraError if torch or transformers is not installed."""
    try:
        for library in ("torch", "transformers", "tokenizers"):
            import_module(library)
    except ImportError as error:
        raise MissingExtraError(
            f'training needs torch and transformers ({error}): pip install "neort[export]"'
        ) from error


def train(model: Any, tokens: TokenIds, options: Options, teacher: Any = None) -> Progress:
    """Train a model in place: its weights are random, or --init-from's."""
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
        model = make_model(options, tokenizer.get_vocab_size()).to(device)
        teacher = load_teacher(options, tokenizer.get_vocab_size())
        corpus, held_out = encode_corpora(options, tokenizer, Path(scratch))
        kinds, parameters = tokenizer.get_vocab_size(), model.num_parameters()
        print(f"{len(corpus.tokens):,} tokens of {kinds:,} kinds; {parameters:,} parameters, on {device}")
        progress = train(model, corpus.tokens, options, teacher)
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
