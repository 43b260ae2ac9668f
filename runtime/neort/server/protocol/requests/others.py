"""Requests that generate no text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..fields import Unused, wire
from ..kinds import Array, Boolean, Choice, Integer, Text
from .common import ANY_PROMPT, ONE_PROMPT, TOKEN, model_field

__all__ = ["FILENAME", "DetokenizeRequest", "EmbeddingRequest", "NameRequest", "PrefixRequest", "TokenizeRequest"]

FILENAME = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,126}"


@dataclass(frozen=True, kw_only=True)
class NameRequest:
    """A model, by its name, from a path or a query."""

    model: str | None = model_field()


@dataclass(frozen=True, kw_only=True)
class EmbeddingRequest:
    """POST /v1/embeddings: texts to make vectors of."""

    model: str | None = model_field()
    input: Any = wire(ANY_PROMPT, "the texts: a string, token ids, or a list of these", required=True)
    encoding_format: str = wire(
        Choice(("float", "base64")), "float for numbers, base64 for the bytes of little-endian float32", default="float"
    )
    truncate_prompt_tokens: int | None = wire(
        Integer(-1, 1 << 31), "keep only so many tokens at a text's end; -1 is what the model has positions for"
    )
    add_special_tokens: bool | None = wire(Boolean(), "put the tokenizer's special tokens around texts")
    request_id: str | None = wire(
        Text(empty=False, longest=128, pattern="[A-Za-z0-9._:-]+"), "what the answer's id is made of"
    )

    UNUSED: ClassVar = {
        "dimensions": Unused("these vectors have the model's own length, and mean nothing when they are cut", ()),
        "user": Unused("nothing is kept about who asks"),
        "normalize": Unused("vectors are one long, as OpenAI's are", (True,)),
        "priority": Unused("texts are read between the steps of others", (0,)),
    }
    ELSEWHERE: ClassVar = {"prompt": "use input", "texts": "use input", "inputs": "use input"}


@dataclass(frozen=True, kw_only=True)
class TokenizeRequest:
    """POST /tokenize: a text to turn into token ids."""

    model: str | None = model_field()
    prompt: str = wire(Text(), "the text", required=True)
    add_special_tokens: bool = wire(Boolean(), "put the tokenizer's special tokens around it", default=True)
    return_token_strs: bool = wire(Boolean(), "tell each token's text as well", default=False)

    UNUSED: ClassVar = {"messages": Unused("use prompt", ())}
    ELSEWHERE: ClassVar = {"text": "use prompt", "content": "use prompt", "input": "use prompt"}


@dataclass(frozen=True, kw_only=True)
class DetokenizeRequest:
    """POST /detokenize: token ids to turn into text."""

    model: str | None = model_field()
    tokens: list[int] = wire(Array(TOKEN), "the token ids", required=True)

    ELSEWHERE: ClassVar = {"token_ids": "use tokens", "ids": "use tokens"}


@dataclass(frozen=True, kw_only=True)
class PrefixRequest:
    """POST /v1/prefixes: a prefix to save, to load, or to release."""

    model: str | None = model_field()
    action: str = wire(
        Choice(("save", "load", "release")),
        "save prefills a prompt and writes it to a file, load reads one and keeps it in memory, release lets go of it",
        required=True,
    )
    filename: str = wire(Text(empty=False, pattern=FILENAME), "the file's name in the server's folder", required=True)
    prompt: Any = wire(ONE_PROMPT, "the prefix, for save: text or token ids")
