"""What a `tokenizer.json` must be like for tiktoken to reproduce it exactly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import TokenizerError
from ..wording import shortened

__all__ = ["check_added_tokens", "check_settings", "check_shape"]


DEEPEST = 8  # sequences within sequences


def check_settings(document: Any) -> None:
    """Raises TokenizerError for the first setting under which tiktoken would not give the same result."""
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict):
        raise TokenizerError("tokenizer.json has no model: restore the file, or save the tokenizer again")
    wanted = {"model.type": ("BPE", model.get("type", "BPE") == "BPE")}
    for name in (
        "dropout",
        "byte_fallback",
        "ignore_merges",
        "continuing_subword_prefix",
        "end_of_word_suffix",
    ):
        wanted[f"model.{name}"] = "none", not model.get(name)
    for name in ("normalizer", "truncation", "padding"):
        wanted[name] = "none", document.get(name) is None
    wanted["pre_tokenizer"] = (
        "ByteLevel(add_prefix_space=False, use_regex=True)",
        [
            (step.get("type"), step.get("add_prefix_space"), step.get("use_regex", True))
            for step in _steps(document.get("pre_tokenizer"), "pretokenizers")
        ]
        == [("ByteLevel", False, True)],
    )
    decoders = [step.get("type") for step in _steps(document.get("decoder"), "decoders")]
    wanted["decoder"] = "ByteLevel", decoders == ["ByteLevel"]
    processors = _steps(document.get("post_processor"), "processors")
    wanted["post_processor"] = "one that adds no tokens", all(map(_adds_no_tokens, processors))
    for name, (needed, fits) in wanted.items():
        if not fits:
            value = (model if name.startswith("model.") else document).get(name.removeprefix("model."))
            raise TokenizerError(
                f"tokenizer.json has {name} {shortened(value)}, which the runtime cannot reproduce "
                f"exactly: train or save the tokenizer with {needed}"
            )


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


def _adds_no_tokens(processor: dict[str, Any]) -> bool:
    if processor.get("type") == "TemplateProcessing":
        return "SpecialToken" not in str(processor.get("single"))
    return processor.get("type") == "ByteLevel"


def check_shape(document: dict[str, Any]) -> None:
    """Raises TokenizerError unless vocabulary, merges and added tokens have the types that they should."""
    vocab, merges = document["model"].get("vocab"), document["model"].get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise TokenizerError("tokenizer.json's model lacks vocab or merges: restore the file")
    if not all(type(token_id) is int and 0 <= token_id < 2**31 for token_id in vocab.values()):
        raise TokenizerError("tokenizer.json's vocab has ids that are no whole numbers >= 0: restore the file")
    if len(set(vocab.values())) < len(vocab):
        raise TokenizerError("tokenizer.json's vocab gives one id to several tokens: give each its own id")
    added = document.get("added_tokens") or []
    if not isinstance(added, list):
        raise TokenizerError(f"tokenizer.json has added_tokens {shortened(added)}, which are no list: restore the file")
    for token in added:
        if not (isinstance(token, dict) and isinstance(token.get("content"), str) and type(token.get("id")) is int):
            raise TokenizerError(f"added token {shortened(token)} lacks id or content: restore the file")


def check_added_tokens(added: Iterable[dict[str, Any]], vocab: dict[str, int]) -> None:
    """Raises TokenizerError for added tokens that match by other rules, or that the reference would renumber:
    it ignores the file's ids, and gives a token its id in the vocabulary or else the next free one."""
    next_id = len(vocab)
    taken = set(vocab.values())
    seen: set[str] = set()
    for token in added:
        content = token["content"]
        flags = [flag for flag in ("lstrip", "rstrip", "single_word") if token.get(flag)]
        if flags:
            raise TokenizerError(
                f"added token {shortened(content)} sets {flags[0]}, which the runtime cannot reproduce: unset it"
            )
        expected = vocab.get(content, next_id)
        if content in seen or token["id"] != expected:
            raise TokenizerError(
                f"added token {shortened(content)} is listed twice, or its id is {shortened(token['id'])} where "
                f"{expected} is due: list each added token once, in the order of ids and without gaps"
            )
        if content not in vocab and expected in taken:
            raise TokenizerError(
                f"added token {shortened(content)} has id {expected}, which another token of the vocabulary has: "
                "number the vocabulary from 0 on without gaps"
            )
        seen.add(content)
        next_id = max(next_id, expected + 1)
