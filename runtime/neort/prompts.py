"""What a prompt may be: text, or token ids as a sequence of integers or an array of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from .arrays import Ids
from .errors import ArgumentTypeError, PromptError

__all__ = ["Prompt", "Prompts", "about", "as_ids", "is_one_prompt"]

Prompt = str | Sequence[int] | NDArray[np.integer[Any]]


class Prompts(Protocol):
    """A list or another sequence of prompts, but no str, which would be a sequence of one-letter prompts.

    ``__contains__`` tells the two apart: a str's takes a str only.
    """

    def __contains__(self, value: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Prompt]: ...
    @overload
    def __getitem__(self, index: int, /) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice, /) -> Sequence[Prompt]: ...


@contextlib.contextmanager
def about(subject: str) -> Iterator[None]:
    """Context in which errors about a prompt say first which one it is, as the ``subject`` names it."""
    try:
        yield
    except (ArgumentTypeError, PromptError) as error:
        raise type(error)(f"{subject}: {error}") from None


def is_one_prompt(prompt: Any) -> bool:
    """Whether this is one prompt rather than a list of prompts. Raises ArgumentTypeError, PromptError for neither."""
    if isinstance(prompt, str):
        return True
    if isinstance(prompt, np.ndarray):
        if prompt.ndim > 1:
            raise ArgumentTypeError(
                f"an array of shape {list(prompt.shape)} is no prompt; for one prompt per row, give list(array)"
            )
        return True
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray, memoryview)):
        remedy = _remedy(prompt)
        raise ArgumentTypeError(f"a prompt is text, token ids, or a list of these, not {type(prompt).__name__}{remedy}")
    if len(prompt) == 0:
        raise PromptError("the list of prompts is empty; give at least one prompt")
    return isinstance(prompt[0], (int, np.integer))


def _remedy(prompt: Any) -> str:
    """What to give instead of another library's prompt: a tensor, or what a tokenizer of transformers returns."""
    if hasattr(prompt, "tolist") and not isinstance(prompt, Sequence):
        return "; give its tolist(), without padding"
    return (
        '; give its "input_ids" as lists, without padding'
        if isinstance(prompt, Mapping) and "input_ids" in prompt
        else ""
    )


def as_ids(token_ids: Any) -> Ids:
    """Token ids as an int64 vector [T]. Raises ArgumentTypeError for anything but integers."""
    if isinstance(token_ids, (str, bytes, bytearray)) or not isinstance(token_ids, (Sequence, np.ndarray)):
        raise ArgumentTypeError(f"token ids are a sequence of integers, not {type(token_ids).__name__}")
    if not isinstance(token_ids, np.ndarray) and any(isinstance(i, (bool, np.bool_)) for i in token_ids):
        raise ArgumentTypeError("token ids are integers, not booleans")
    try:
        array = np.asarray(token_ids)
    except ValueError:  # nested unevenly
        raise ArgumentTypeError(
            "token ids are a flat sequence of integers, not sequences of different lengths"
        ) from None
    if array.dtype == object and all(isinstance(i, int) for i in array.flat):
        raise PromptError(f"token id {max(array.flat, key=abs)} is outside every vocabulary")
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ArgumentTypeError(
            f"token ids are a flat sequence of integers, not {array.dtype} of shape {list(array.shape)}"
        )
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise PromptError(f"token id {array.max()} is outside every vocabulary")
    return array.astype(np.int64)
