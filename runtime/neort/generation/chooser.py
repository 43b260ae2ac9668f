"""Chooses a sequence's tokens: its processors, its random stream, and what draws from it.

Knows token ids and logits; knows nothing about text, other sequences or the model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Ids, Logits
from ..errors import ArgumentTypeError, ConfigError, LogitsError
from .config import GenerationConfig
from .constraints import Constraint
from .processors import LogitsProcessor, build_processors
from .samplers import check_finite, greedy, make_generator, sample

__all__ = ["TokenChooser", "own_processors"]


class TokenChooser:
    """Chooses the next token of one sequence, again and again; its processors and its generator may have a state."""

    def __init__(
        self, processors: Sequence[LogitsProcessor] = (), generator: np.random.Generator | None = None
    ) -> None:
        """``processors`` are applied in their order; ``generator`` draws, None takes the largest logit (greedy)."""
        self.processors = list(processors)
        self.generator = generator

    @classmethod
    def from_config(
        cls,
        config: GenerationConfig,
        prompt_length: int,
        index: int = 0,
        *,
        processors: Sequence[LogitsProcessor] = (),
        constraint: Constraint | None = None,
    ) -> TokenChooser:
        """Return what chooses as ``config`` says for return sequence ``index`` of a prompt.

        ``prompt_length`` is the number of tokens in the prompt. The caller's own ``processors`` come where transformers
        has them, before temperature and what narrows the choice. ``constraint`` is that of the grammar in ``config``,
        which `Grammars` makes.

        Raises ConfigError where ``config`` has a grammar and there is no ``constraint``.
        """
        if config.constraint is not None and constraint is None:
            raise ConfigError(f"{config.constraint[0]} needs a tokenizer: give it to Model.generate or Model.stream")
        return cls(
            build_processors(config, prompt_length, own=processors, constraint=constraint),
            make_generator(config.seed, index) if config.do_sample else None,
        )

    def choose(self, ids: Ids, logits: Logits) -> int:
        """Return the token to follow ``ids``, int64 [T], those of the prompt and of the text so far.

        ``logits``, float32 [V], are the model's.

        Raises LogitsError where they are NaN, +inf, or all -inf, or where the processors leave no token.
        """
        check_finite(logits, len(ids))
        for processor in self.processors:
            logits = processor(ids, logits)
        if self.generator is not None:
            return sample(logits, self.generator)
        token = greedy(logits)
        if not logits[token] > -np.inf:
            raise LogitsError(
                f"the logits processors leave no token at position {len(ids)}: the largest logit is {logits[token]}. "
                "Check the options that rule out tokens."
            )
        return token

    def ends(self, ids: Ids) -> bool:
        """Return whether a grammar allows nothing but the end after ``ids``, int64 [T]; raises what `choose` does."""
        return any(isinstance(each, Constraint) and each.is_complete(ids) for each in self.processors)

    def fork(self) -> TokenChooser:
        """Return an independent copy, in the state that this one is in: it chooses as this one would.

        Raises ConfigError where a processor cannot be copied.
        """
        fork = copy.copy(self)
        fork.processors, fork.generator = _copies(self.processors), copy.deepcopy(self.generator)
        return fork


def own_processors(processors: Sequence[LogitsProcessor] | None, *, first: bool) -> list[LogitsProcessor]:
    """Return the caller's own processors for one sequence of a call; None means none.

    The ``first`` sequence gets the objects themselves, so that their owner sees what they note. Every further one gets
    copies, in the state that the objects are in: make all of them before the first sequence runs.

    Raises ArgumentTypeError for what is no sequence of callables, ConfigError for a processor that cannot be copied.
    """
    if processors is None:
        return []
    _check_processors(processors)
    return list(processors) if first else _copies(processors)


def _check_processors(processors: Any) -> None:
    """Raises ArgumentTypeError for what is no list or tuple of callables."""
    if not isinstance(processors, Sequence) or isinstance(processors, str | bytes):
        raise ArgumentTypeError(
            f"logits_processor is {processors!r}; it takes a list of functions of ids and logits, also for a single one"
        )
    for processor in processors:
        if not callable(processor):
            raise ArgumentTypeError(
                f"logits_processor holds {processor!r}; it takes functions of ids and logits, see neort.LogitsProcessor"
            )


def _copies(processors: Sequence[LogitsProcessor]) -> list[LogitsProcessor]:
    """Deep copies, which share what the originals share. Raises ConfigError where there can be none."""
    memo: dict[int, Any] = {}
    return [_copy(processor, memo) for processor in processors]


def _copy(processor: LogitsProcessor, memo: dict[int, Any]) -> LogitsProcessor:
    try:
        return copy.deepcopy(processor, memo)
    except Exception as error:  # whatever the parts of a caller's object raise
        raise ConfigError(
            f"the logits processor {processor!r} cannot be copied ({error}), which several sequences or drafts need; "
            "generate one sequence without a draft model, or define its __deepcopy__"
        ) from error
