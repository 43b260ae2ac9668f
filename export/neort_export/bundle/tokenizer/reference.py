"""The tokenizer that transformers' AutoTokenizer makes of some files: the reference for the bundle's."""

from __future__ import annotations

import contextlib
import functools
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neort.wording import shortened

from ...checkpoint import said
from ...errors import CheckpointError

__all__ = ["Reference", "load_reference"]


class Reference:
    """A tokenizer of transformers that runs on the tokenizers library."""

    def __init__(self, tokenizer: Any, folder: Path, source: Path) -> None:
        """Takes what AutoTokenizer returned for a folder, which has to have a backend; errors are about ``source``."""
        self._tokenizer, self._folder, self._source = tokenizer, folder, source

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """The backend as the contents of a tokenizer.json, without padding and truncation, which are for calls."""
        return _without_calls(self._tokenizer.backend_tokenizer.to_str())

    @property
    def special_tokens(self) -> dict[str, str]:
        """The tokens that have a role, such as ``eos_token``, by its name."""
        roles: Mapping[str, Any] = self._tokenizer.special_tokens_map
        return {role: str(token) for role, token in roles.items() if not isinstance(token, (list, tuple, dict))}

    @property
    def applied(self) -> dict[str, bool]:
        """The settings that transformers applies to a tokenizer.json whenever it loads one."""
        steps = _flat(self.document["pre_tokenizer"], "pretokenizers")
        return {"add_prefix_space": any(step.get("add_prefix_space") for step in steps)}

    @property
    def sides(self) -> dict[str, str]:
        """The ends at which calls pad and cut texts, which a tokenizer.json may say alone."""
        return {name: getattr(self._tokenizer, name) for name in ("padding_side", "truncation_side")}

    def encode(self, texts: list[str]) -> list[list[int]]:
        """What ``AutoTokenizer.from_pretrained(...)(text)["input_ids"]`` is for each text.

        Raises CheckpointError where that fails.
        """
        with _telling(self._folder, self._source):
            ids: list[list[int]] = self._tokenizer(texts)["input_ids"]
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids, with special tokens. Raises what `encode` does."""
        with _telling(self._folder, self._source):
            text: str = self._tokenizer.decode(ids)
        return text

    def says_the_same(self, file: Path) -> bool:
        """Whether a tokenizer.json has the same tokens and settings, whatever its form, and none for single calls."""
        from tokenizers import Tokenizer

        try:
            backend = Tokenizer.from_file(str(file))
        except BaseException as error:  # tokenizers raises nothing more specific
            if not _is_a_library_s(error):
                raise
            return False
        if backend.padding is not None or backend.truncation is not None:
            return False
        written = backend.to_str()
        if written == self._tokenizer.backend_tokenizer.to_str():
            return True
        return _meaning(_without_calls(written)) == _meaning(self.document)


def load_reference(folder: Path, source: Path) -> Reference:
    """Load the tokenizer in a folder, offline and without running code of the checkpoint's.

    Raises CheckpointError, about the file ``source``, for files that transformers does not read and for tokenizers
    that do not run on the tokenizers library.
    """
    from transformers import AutoTokenizer

    with _telling(folder, source):
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False, local_files_only=True)
    _check(tokenizer, source)
    return Reference(tokenizer, folder, source)


def _check(tokenizer: Any, source: Path) -> None:
    name = type(tokenizer).__name__
    if not getattr(tokenizer, "is_fast", False) or getattr(tokenizer, "backend_tokenizer", None) is None:
        raise CheckpointError(
            f"{source}: transformers reads it as a {name}, which has its own code for making ids, and neort "
            "has byte-level BPE as GPT-2's alone: export a checkpoint with such a tokenizer"
        )
    if getattr(tokenizer, "split_special_tokens", False):
        raise CheckpointError(
            f"{source}: tokenizer_config.json sets split_special_tokens, with which special tokens that are "
            "written in a text are no tokens, and in neort they are: set it to false, if that is right too"
        )
    longest = tokenizer.model_max_length
    if not isinstance(longest, (int, float)):
        raise CheckpointError(
            f"{source}: tokenizer_config.json sets model_max_length to {shortened(longest)}, which is no number, and "
            "transformers fails with every text: correct it, or remove it"
        )


@contextlib.contextmanager
def _telling(folder: Path, source: Path) -> Iterator[None]:
    """Context in which transformers is quiet, and what it raises about a folder's files becomes a CheckpointError."""
    from transformers import __version__

    try:
        with _quiet():
            yield
    except BaseException as error:
        if not _is_a_library_s(error):
            raise
        why = f"{type(error).__name__}: {said(error)}".replace(str(folder), str(source.parent))
        raise CheckpointError(
            f"{source} and the files beside it do not make a tokenizer that transformers {__version__} reads ({why}); "
            "restore them, use the release of transformers that saved them, or name another folder with --tokenizer"
        ) from error


def _is_a_library_s(error: BaseException) -> bool:
    """Whether transformers or tokenizers raises it: they raise several kinds, panics of Rust among them."""
    if isinstance(error, MemoryError):
        return False
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context in which transformers only raises what it has to say."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)


def _without_calls(serialized: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(serialized)
    return document | {"padding": None, "truncation": None}


def _meaning(document: dict[str, Any]) -> dict[str, Any]:
    """What decides on ids and text, of a document that tokenizers wrote."""
    model = {name: value or None for name, value in document["model"].items() if name not in ("vocab", "merges")}
    pre_tokenizers = _flat(document["pre_tokenizer"], "pretokenizers")
    return {
        "model": model,
        "vocab": document["model"]["vocab"],
        "merges": document["model"].get("merges"),
        "added_tokens": document["added_tokens"],
        "normalizer": document["normalizer"],
        "pre_tokenizers": [{**step, "trim_offsets": None} for step in pre_tokenizers],
        "decoders": [step["type"] for step in _flat(document["decoder"], "decoders")],
        "processors": [step for step in _flat(document["post_processor"], "processors") if _adds_tokens(step)],
    }


def _adds_tokens(processor: dict[str, Any]) -> bool:
    template = processor["type"] == "TemplateProcessing"
    return processor["type"] != "ByteLevel" and not (template and "SpecialToken" not in str(processor["single"]))


def _flat(part: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """The steps of a Sequence, or the one step that ``part`` is, or none."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [step for member in part[key] for step in _flat(member, key)]
