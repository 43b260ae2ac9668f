"""The prompts of a request as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....model import Model
from ...protocol import RequestError

__all__ = ["check_length", "ids_of", "prompts_of", "size_of"]


def prompts_of(value: Any) -> list[str | list[int]]:
    """A field's prompts, each text or token ids, where it may hold one or a list of them."""
    if isinstance(value, str) or isinstance(value[0], int):
        return [value]
    return list(value)


def check_length(ids: Sequence[int], max_tokens: int | None, positions: int, param: str) -> None:
    """Raise RequestError for a prompt that leaves no room for so many new tokens; for one at least, where it is None.

    The last new token takes no position.
    """
    if len(ids) + (max_tokens or 1) - 1 <= positions:
        return
    asked = f" and max_tokens is {max_tokens}" if max_tokens else ""
    raise RequestError(
        400,
        f"the prompt has {len(ids)} tokens{asked}; the model has {positions} positions for both: shorten the prompt, "
        "set truncate_prompt_tokens, or lower max_tokens",
        param=param,
        code="context_length_exceeded",
    )


def size_of(prompts: Sequence[str | list[int]]) -> int:
    """How many characters and ids there are to read."""
    return sum(map(len, prompts))


def ids_of(
    prompt: str | list[int], model: Model, *, special: bool = True, truncate: int | None = None, room: int = 0
) -> list[int]:
    """The token ids of a prompt, of which the last ``truncate`` are kept; -1 stands for ``room``, None for all.

    Raises RequestError where none is left.
    """
    ids = model.tokenizer.encode(prompt, add_special_tokens=special) if isinstance(prompt, str) else prompt
    if truncate is not None:
        ids = ids[max(0, len(ids) - (room if truncate < 0 else truncate)) :]
    if not ids:
        message = f"truncate_prompt_tokens is {truncate} and leaves no token of a prompt; use a larger number"
        raise RequestError(400, message, param="truncate_prompt_tokens")
    return ids
