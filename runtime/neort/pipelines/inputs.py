"""What a pipeline is called with: one text, a list, or an iterator, whose results come as they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from ..errors import ArgumentTypeError, ConfigError, PromptError
from ..wording import shortened

__all__ = ["checked_batch_size", "run_inputs"]

Result = TypeVar("Result")
Run = Callable[[list[str], str], list[Result]]

CHAT = (
    "a chat needs the model's chat template, and these models continue plain text: join its messages to one text, such "
    'as "".join(message["content"] for message in chat)'
)


def run_inputs(inputs: Any, run: Run[Result], batch_size: int | None) -> Result | list[Result] | Iterator[Result]:
    """The results of ``run``, which takes texts and what to call them in a message, in the form of the inputs.

    One for a str, a list for a list or a tuple, where all texts are run together unless ``batch_size`` is given; an
    iterator for any other iterable, of which ``batch_size`` texts (1) are read at a time.

    Raises ArgumentTypeError for anything else, PromptError for a chat.
    """
    if isinstance(inputs, str):
        return run([inputs], "the prompt")[0]
    if isinstance(inputs, (list, tuple)):
        if not inputs:
            return []
        return [result for texts in _batches(inputs, batch_size or len(inputs)) for result in _run(run, texts)]
    if isinstance(inputs, Mapping) or not isinstance(inputs, Iterable) or isinstance(inputs, (bytes, bytearray)):
        raise ArgumentTypeError(f"a pipeline takes text, a list or an iterator of texts, not {type(inputs).__name__}")
    return (result for texts in _batches(inputs, batch_size or 1) for result in _run(run, texts))


def checked_batch_size(value: Any) -> int | None:
    """A number of texts, or None. Raises ArgumentTypeError, ConfigError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentTypeError(f"batch_size is an integer, not {type(value).__name__}")
    if value < 1:
        raise ConfigError(f"batch_size is {value}; it must be at least 1")
    return value


def _batches(inputs: Iterable[Any], size: int) -> Iterator[list[tuple[int, Any]]]:
    numbered = enumerate(inputs)
    while batch := list(itertools.islice(numbered, size)):
        yield batch


def _run(run: Run[Result], numbered: list[tuple[int, Any]]) -> list[Result]:
    for index, text in numbered:
        if _is_message(text) or (isinstance(text, (list, tuple)) and text and _is_message(text[0])):
            raise PromptError(CHAT)
        if not isinstance(text, str):
            raise ArgumentTypeError(f"text {index} is {shortened(text)}, of type {type(text).__name__}; give a str")
    first, last = numbered[0][0], numbered[-1][0]
    return run([text for _, text in numbered], f"text {first}" if first == last else f"one of texts {first} to {last}")


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and "role" in value
