"""What a model makes of records: one JSON object each, the same whatever runs beside it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Generator, Iterable
from typing import Any

from ..engine import Completion
from ..errors import ArgumentTypeError, LogitsError, PromptError
from ..generation import GenerationConfig
from ..model import Model
from ..tokenizer import Tokenizer
from ..wording import shortened
from .figures import FIGURES, figures_of
from .pool import in_order
from .records import Record

__all__ = ["REFUSED", "RESULT_KEYS", "WINDOW", "Result", "answer", "answered", "answers", "threads_of"]

RESULT_KEYS = ("finish_reason", "prompt_tokens", "new_tokens", "error", "index", "digest")
REFUSED = (PromptError, ArgumentTypeError, LogitsError)  # errors that are one record's own
OF_PROMPT = ("prompt_tokens", "prompt_logprobs")  # the same for all sequences of a record
WINDOW = 8  # records in flight per thread: so many may be done before the oldest one is

Result = tuple[Record, dict[str, Any]]


def answers(
    model: Model,
    records: Iterable[Record],
    config: GenerationConfig,
    *,
    output_key: str,
    batch_size: int,
    negative_prompt: str | None = None,
) -> Generator[Result, None, None]:
    """Yield each record with its result, in order; about ``batch_size`` sequences run at a time.

    Record i has the seed ``config.seed`` + i, so its text is the same whatever runs beside it. A record that is no
    prompt, or none that the model takes, has an "error" in its result. Raises what `Model.generate` does besides.
    """
    workers = threads_of(config, batch_size)
    run = functools.partial(answer, model, config, output_key, negative_prompt)
    return in_order(run, records, workers=workers, window=WINDOW * workers)


def threads_of(config: GenerationConfig, batch_size: int) -> int:
    """How many threads it takes to keep about ``batch_size`` sequences running: one for each record, and one more."""
    return -(-batch_size // config.num_return_sequences) + 1


def answer(
    model: Model, config: GenerationConfig, output_key: str, negative_prompt: str | None, record: Record
) -> Result:
    """A record with its result; see `answers`."""

    def run() -> dict[str, Any]:
        completions = model.generate(
            record.prompt,
            config.replace(seed=None if config.seed is None else config.seed + record.index),
            num_return_sequences=config.num_return_sequences,
            negative_prompt=negative_prompt,
        )
        return _told(completions, output_key, model.tokenizer)

    return answered(record, output_key, RESULT_KEYS, run)


def answered(record: Record, output_key: str, keys: Collection[str], run: Callable[[], dict[str, Any]]) -> Result:
    """A record with its result: what it has itself but for ``keys``, what ``run`` returns or refuses, and its place.

    ``run`` is not called for a record that is no prompt, or that has a member ``output_key``.
    """
    kept = {name: value for name, value in record.kept.items() if name not in keys}
    error, told = record.error, {}
    if not error and output_key in kept:
        error = f"it has a member {shortened(output_key)} of its own; give the results another name by --output-key"
    if not error:
        try:
            told = run()
        except REFUSED as refused:
            error = str(refused)
    return record, {**kept, **({"error": error} if error else told), "index": record.index, "digest": record.digest}


def _told(completions: list[Completion], output_key: str, tokenizer: Tokenizer) -> dict[str, Any]:
    """The members of a result; lists of several sequences' where there are several."""
    told: dict[str, list[Any]] = {
        output_key: [completion.text for completion in completions],
        "finish_reason": [completion.finish_reason for completion in completions],
        "prompt_tokens": [completion.stats.prompt_tokens for completion in completions],
        "new_tokens": [completion.stats.new_tokens for completion in completions],
    }
    figures = [figures_of(completion, tokenizer) for completion in completions]
    told |= {name: [each[name] for each in figures] for name in FIGURES if name in figures[0]}
    if len(completions) == 1:
        return {name: values[0] for name, values in told.items()}
    return {**told, **{name: told[name][0] for name in OF_PROMPT if name in told}}
