"""tokenizer.json and tokenizer_config.json of a bundle: what transformers makes of the checkpoint's files.

transformers' AutoTokenizer reads several files, of which tokenizer.json is one, and changes what that says by the
others. So it loads them, and what it has then is written, if neort gives the same ids for it.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.tokenization_utils_base import get_fast_tokenizer_file

from neort.errors import TokenizerError
from neort.tokenizer import Tokenizer
from neort.wording import shortened

from ...checkpoint import LARGE_FILE, Checkpoint, has_file, read_bytes, read_object
from ...errors import CheckpointError
from ..manifest import write_json
from .check import check_same_ids, check_same_text, same_ids, texts_for
from .reference import Reference, load_reference

__all__ = ["write_tokenizer"]

CONFIG, CHAT_TEMPLATE = "config.json", "chat_template.jinja"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
OLD_TOKENIZER = ("vocab.json", "merges.txt")
READ_WITH_IT = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json")
OTHERS = ("tokenizer.model", "spiece.model", "vocab.txt", "tokenizer_config.json")  # say that there is another one
VERSIONS = "fast_tokenizer_files"  # of tokenizer.json, with the release of transformers from which on each is read
SCRATCH, WRITTEN = "given-tokenizer", "written-tokenizer"
MODEL_INPUTS = ["input_ids", "attention_mask"]
GENERIC_CLASS = "PreTrainedTokenizerFast"  # takes tokenizer.json as it is
ENTRY = ("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special", "__type")  # of a token
NAMED = 3  # of the tokens without a row
# What other classes would apply to a tokenizer.json in which it is done already.
APPLIED = ("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens", "auto_map", "init_inputs")
FLAGS_APPLIED = ("add_bos_token", "add_eos_token", "tokenizer_file", "vocab_file", "merges_file")


def write_tokenizer(checkpoint: Checkpoint, folder: Path) -> Tokenizer:
    """Write the tokenizer's files; return the tokenizer, as the runtime will read it.

    `UserWarning` names added tokens for which the model has no row, and says where the text differs.

    Raises CheckpointError when there is no tokenizer, or one whose ids the runtime cannot reproduce.
    """
    source, own = _source(checkpoint)
    scratch = folder / SCRATCH
    try:
        reference = _load(checkpoint, scratch, source)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    tokenizer = _own(own, reference, source)
    if tokenizer is not None:
        (folder / TOKENIZER).write_bytes(read_bytes(source, LARGE_FILE))
    else:
        write_json(folder / TOKENIZER, reference.document)
        try:
            tokenizer = Tokenizer(reference.document)
        except TokenizerError as error:
            raise CheckpointError(f"{source}: {error}") from error
    texts = texts_for(list(tokenizer.added_tokens))
    check_same_ids(tokenizer, reference, texts, source)
    check_same_text(tokenizer, reference, source)
    _check_rows(tokenizer, checkpoint.dimensions.vocab_size, source)
    _write_config(checkpoint, folder, reference, texts)
    return tokenizer


def _source(checkpoint: Checkpoint) -> tuple[Path, dict[str, Any] | None]:
    """The file that holds the vocabulary, and what a tokenizer.json holds. Raises CheckpointError where none does."""
    folder = checkpoint.tokenizer_path
    file, vocab = folder / _current(folder / TOKENIZER_CONFIG), folder / OLD_TOKENIZER[0]
    if has_file(file):
        document = read_object(file, LARGE_FILE)
        _check_ids(file, document.get("model"))
        _check_entries(file, {"added_tokens": document.get("added_tokens")})
        return file, document
    if all(has_file(folder / name) for name in OLD_TOKENIZER):
        _check_ids(vocab, {"vocab": read_object(vocab, LARGE_FILE)})
        return vocab, None
    found = [name for name in (*OLD_TOKENIZER, *OTHERS) if has_file(folder / name)]
    raise CheckpointError(
        f"{folder} has no tokenizer (tokenizer.json, or vocab.json with merges.txt{_but(found)}); name the folder or "
        "the hub name of the tokenizer that the model was trained with: --tokenizer NAME_OR_FOLDER (TinyStories "
        "models have that of EleutherAI/gpt-neo-125M)"
    )


def _current(config: Path) -> str:
    """The name of the tokenizer.json for the installed transformers, of which there may be several with numbers.

    Raises CheckpointError for one that is missing.
    """
    named = read_object(config).get(VERSIONS) if has_file(config) else None
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        return TOKENIZER
    try:
        name: str = get_fast_tokenizer_file(named)
    except ValueError:
        return TOKENIZER  # transformers says what it is
    if name != TOKENIZER and (Path(name).name != name or not has_file(config.with_name(name))):
        raise CheckpointError(
            f"{config} names {shortened(name)} in {VERSIONS}, which is not beside it: restore it, or remove that entry"
        )
    return name


def _own(document: dict[str, Any] | None, reference: Reference, source: Path) -> Tokenizer | None:
    """The tokenizer of the checkpoint's own tokenizer.json, if that says what transformers makes of all the files."""
    try:
        return Tokenizer(document) if document is not None and reference.says_the_same(source) else None
    except TokenizerError:
        return None  # as of tokens that are listed twice


def _but(found: list[str]) -> str:
    return f", only {', '.join(found)}" if found else ""


def _check_ids(file: Path, model: object) -> None:
    """Raises CheckpointError for ids with gaps: transformers numbers added tokens over them, and warns on stdout."""
    vocab = model.get("vocab") if isinstance(model, Mapping) else None
    if not isinstance(vocab, Mapping):
        return  # transformers says what it is
    for number, token_id in enumerate(sorted(map(_number, vocab.values()))):
        if token_id != number:
            raise CheckpointError(
                f"{file} does not number its {len(vocab):,} tokens from 0 on without gaps: there is no id {number}, or "
                "it is there twice; restore the file"
            )


def _check_entries(file: Path, value: object, depth: int = 3) -> None:
    """Raises CheckpointError for a token with a setting that tokenizers does not know, which it tells on stdout."""
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        unknown = [name for name in value if name not in ENTRY]
        if unknown:
            raise CheckpointError(
                f"{file} has token {shortened(value['content'])} with an unknown setting {shortened(unknown[0])}; "
                "restore the file"
            )
    elif isinstance(value, (dict, list)) and depth:
        for each in value.values() if isinstance(value, dict) else value:
            _check_entries(file, each, depth - 1)


def _number(token_id: object) -> int:
    return token_id if type(token_id) is int else -1


def _load(checkpoint: Checkpoint, scratch: Path, source: Path) -> Reference:
    """What transformers makes of the files, in a folder that has no others: it opens whatever it knows by name."""
    folder = checkpoint.tokenizer_path
    scratch.mkdir()
    names = {CONFIG, source.name, *READ_WITH_IT} | (set(OLD_TOKENIZER) if source.name in OLD_TOKENIZER else set())
    for name in names:
        file = folder / name
        if name == CONFIG and not has_file(file):
            file = checkpoint.path / name
        if not has_file(file):
            continue
        if name.endswith(".json") and file != source:
            _check_entries(file, read_object(file, LARGE_FILE))
        (scratch / name).write_bytes(read_bytes(file, LARGE_FILE))
    return load_reference(scratch, source)


def _check_rows(tokenizer: Tokenizer, rows: int, source: Path) -> None:
    """Raises CheckpointError where texts may have ids beyond the model's; added tokens with such ids are told."""
    if tokenizer.largest_text_id >= rows:
        raise CheckpointError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} entries, up to id {tokenizer.largest_text_id}, the "
            f"model only {rows}, and texts may need those beyond; use the tokenizer that belongs to these weights "
            "(--tokenizer)"
        )
    beyond = {token: token_id for token, token_id in tokenizer.added_tokens.items() if token_id >= rows}
    if beyond:
        named = ", ".join(f"{shortened(token)} ({token_id})" for token, token_id in list(beyond.items())[:NAMED])
        others = f" and {len(beyond) - NAMED} more" if len(beyond) > NAMED else ""
        warnings.warn(
            f"{source}: the model has {rows} tokens and none for the added {named}{others}; a prompt that contains one "
            "is refused",
            UserWarning,
            stacklevel=2,
        )


def _write_config(checkpoint: Checkpoint, folder: Path, reference: Reference, texts: list[str]) -> None:
    """Write tokenizer_config.json: the checkpoint's, where transformers reads the bundle by it as it read that one.

    It names what the model reads: transformers 4.57's generic class returns token_type_ids otherwise, which GPT-Neo
    adds to the embeddings without a word. A chat template that has a file of its own goes into it, and
    the side of padding that tokenizer.json's says.
    """
    source = checkpoint.tokenizer_path / TOKENIZER_CONFIG
    target = folder / TOKENIZER_CONFIG
    settings: dict[str, Any] = {
        "tokenizer_class": GENERIC_CLASS,
        "model_max_length": checkpoint.config.max_position_embeddings,
    }
    if has_file(source):
        settings = read_object(source)
        target.write_bytes(read_bytes(source))
    changes: dict[str, Any] = {"model_input_names": MODEL_INPUTS}
    changes |= {name: side for name, side in reference.sides.items() if side != settings.get(name, "right")}
    template = source.with_name(CHAT_TEMPLATE)
    if has_file(template):
        changes["chat_template"] = read_bytes(template).decode("utf-8", "replace")
    if settings.get(VERSIONS) is not None or any(settings.get(name) != value for name, value in changes.items()):
        settings = {name: value for name, value in settings.items() if name != VERSIONS} | changes
        write_json(target, settings)
    if not _reads_as(checkpoint, folder, reference, texts):
        kept = {name: value for name, value in settings.items() if not _is_applied(name)}
        write_json(target, kept | {"tokenizer_class": GENERIC_CLASS} | reference.applied | reference.special_tokens)
        if not _reads_as(checkpoint, folder, reference, texts):
            raise CheckpointError(
                f"{source.parent}: transformers reads its tokenizer otherwise once that is saved as tokenizer.json; "
                "save it with its own save_pretrained, and export that"
            )


def _is_applied(name: str) -> bool:
    return name in APPLIED or name in FLAGS_APPLIED or name.endswith("_token")


def _reads_as(checkpoint: Checkpoint, folder: Path, reference: Reference, texts: list[str]) -> bool:
    """Whether transformers reads the same tokenizer from the files that were written."""
    scratch = folder / WRITTEN
    scratch.mkdir()
    try:
        shutil.copyfile(checkpoint.path / CONFIG, scratch / CONFIG)
        for name in (TOKENIZER, TOKENIZER_CONFIG):
            shutil.copyfile(folder / name, scratch / name)
        written = load_reference(scratch, folder / TOKENIZER)
    except CheckpointError:
        return False
    finally:
        shutil.rmtree(scratch)
    return written.special_tokens == reference.special_tokens and same_ids(written, reference, texts)
