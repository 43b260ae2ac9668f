"""What a `tokenizer.json` must be like for its ids to be reproduced exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import TokenizerError
from ..wording import shortened
from .characters import ALPHABET

__all__ = ["Settings", "check_shape", "read_settings"]

DEEPEST = 8  # sequences within sequences
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
OTHER_CLASS = "neort has byte-level BPE with GPT-2's pattern alone; use a checkpoint that was trained with that"


@dataclass(frozen=True)
class Settings:
    """What is done to a text besides merging: a blank before it, cutting, and the ids before and after its own."""

    add_prefix_space: bool
    use_regex: bool
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]


def read_settings(document: Any) -> Settings:
    """The settings of a file; `check_shape` comes after it.

    Truncation and padding are for calls, and are not looked at.

    Raises TokenizerError for the first setting whose ids or text would not be the same here.
    """
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict):
        raise TokenizerError("tokenizer.json has no model: restore the file, or save the tokenizer again")
    _check_model(model)
    normalizers = _steps(document.get("normalizer"), "normalizers")
    if normalizers:
        raise TokenizerError(
            f"tokenizer.json has normalizer {shortened(document['normalizer'])}, and what that makes of a text depends "
            f"on its library's version of Unicode: {OTHER_CLASS}"
        )
    decoders = [step.get("type") for step in _steps(document.get("decoder"), "decoders")]
    if decoders != ["ByteLevel"]:
        raise TokenizerError(
            f"tokenizer.json has decoder {shortened(document.get('decoder'))}, which writes tokens as other text "
            'than their bytes: set it to {"type": "ByteLevel"}, which leaves the ids as they are'
        )
    add_prefix_space, use_regex = _pre_tokenizer(document.get("pre_tokenizer"))
    return Settings(add_prefix_space, use_regex, *_surroundings(document.get("post_processor")))


def _check_model(model: Mapping[str, Any]) -> None:
    if model.get("type", "BPE") != "BPE":
        raise TokenizerError(f"tokenizer.json has a model of type {shortened(model['type'])}: {OTHER_CLASS}")
    if model.get("dropout"):
        raise TokenizerError(
            f"tokenizer.json has model.dropout {shortened(model['dropout'])}, with which a text has other ids "
            "each time, for training: set it to null, and the ids are those of the merges"
        )
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise TokenizerError(f"tokenizer.json has model.{name} {shortened(model[name])}: {OTHER_CLASS}")
    for name in ("byte_fallback", "ignore_merges", "fuse_unk"):
        if not isinstance(model.get(name), bool | None):
            raise TokenizerError(
                f"tokenizer.json has model.{name} {shortened(model[name])}, which is neither true nor false: restore it"
            )


def _pre_tokenizer(part: Any) -> tuple[bool, bool]:
    """Whether a blank is put before a text, and whether it is cut by the pattern."""
    steps = _steps(part, "pretokenizers")
    if [step.get("type") for step in steps] != ["ByteLevel"]:
        raise TokenizerError(f"tokenizer.json has pre_tokenizer {shortened(part)}: {OTHER_CLASS}")
    flags = steps[0].get("add_prefix_space", True), steps[0].get("use_regex", True)
    if not all(isinstance(flag, bool) for flag in flags):
        raise TokenizerError(
            f"tokenizer.json has pre_tokenizer {shortened(part)}, whose add_prefix_space or use_regex is neither true "
            "nor false: restore it"
        )
    return flags


def _surroundings(part: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that are put before and after those of a text."""
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    for step in _steps(part, "processors"):
        try:
            found = _around(step)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise TokenizerError(
                f"tokenizer.json has post_processor {shortened(part)}, which does not say what tokens it puts around "
                "one text: restore it, or use a tokenizer that puts tokens before and after it alone"
            ) from None
        if any(found) and (prefix or suffix):
            raise TokenizerError(
                f"tokenizer.json has post_processor {shortened(part)}, whose steps each put tokens around a text: "
                "transformers fails with it as well; leave one of them"
            )
        prefix, suffix = (found[0] or prefix), (found[1] or suffix)
    return prefix, suffix


def _around(step: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What one step puts before and after a text. Raises several kinds of errors where it does not say so."""
    match step["type"]:
        case "ByteLevel":
            return (), ()
        case "RobertaProcessing" | "BertProcessing":
            return _ids([step["cls"][1]]), _ids([step["sep"][1]])
        case "TemplateProcessing":
            pieces, special = step["single"], step.get("special_tokens") or {}
            (place,) = (i for i, piece in enumerate(pieces) if "SpecialToken" not in piece)
            if pieces[place]["Sequence"]["id"] != "A":
                raise ValueError("another text than the first")
            tokens = [
                () if i == place else _ids(special[piece["SpecialToken"]["id"]]["ids"])
                for i, piece in enumerate(pieces)
            ]
            return sum(tokens[:place], ()), sum(tokens[place:], ())
    raise ValueError("another type")


def _ids(values: list[Any]) -> tuple[int, ...]:
    if not all(type(value) is int and 0 <= value < 2**31 for value in values):
        raise ValueError("no ids")
    return tuple(values)


def _steps(part: Any, key: str, depth: int = DEEPEST) -> list[dict[str, Any]]:
    """The steps of a Sequence, or the one step that `part` is, or none."""
    if part is None:
        return []
    if not isinstance(part, dict):
        return [{"type": part}]
    if part.get("type") != "Sequence":
        return [part]
    members = part.get(key) or []
    if not isinstance(members, list) or depth == 0:
        return [part]  # whose type no step has
    return [step for member in members for step in _steps(member, key, depth - 1)]


def check_shape(document: Mapping[str, Any]) -> None:
    """Raises TokenizerError unless vocabulary, merges and added tokens have the types that they should."""
    model = document["model"]
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise TokenizerError("tokenizer.json's model lacks vocab or merges: restore the file")
    if not all(type(token_id) is int and 0 <= token_id < 2**31 for token_id in vocab.values()):
        raise TokenizerError("tokenizer.json's vocab has ids that are no whole numbers >= 0: restore the file")
    if len(set(vocab.values())) < len(vocab):
        raise TokenizerError("tokenizer.json's vocab gives one id to several tokens: give each its own id")
    unknown = model.get("unk_token")
    if not isinstance(unknown, str | None):
        raise TokenizerError(f"tokenizer.json has unk_token {shortened(unknown)}, which is no token: restore the file")
    missing = [byte for character, byte in ALPHABET.items() if character not in vocab]
    if missing and unknown is not None and unknown not in vocab:
        raise TokenizerError(
            f"tokenizer.json has unk_token {shortened(unknown)}, which its vocabulary lacks, so that every text with "
            f"one of the {len(missing)} bytes that it lacks too, 0x{missing[0]:02x} for one, is an error: restore it"
        )
    _check_added(document.get("added_tokens"))


def _check_added(added: Any) -> None:
    if not isinstance(added, list | None):
        raise TokenizerError(f"tokenizer.json has added_tokens {shortened(added)}, which are no list: restore the file")
    for token in added or ():
        if not (isinstance(token, dict) and isinstance(token.get("content"), str) and type(token.get("id")) is int):
            raise TokenizerError(f"added token {shortened(token)} lacks id or content: restore the file")
        wrong = [flag for flag in FLAGS if not isinstance(token.get(flag, False), bool)]
        if wrong:
            raise TokenizerError(
                f"added token {shortened(token)} has a {wrong[0]} that is neither true nor false: restore the file"
            )
