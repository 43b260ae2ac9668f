"""Chooses a sequence's tokens: its processors, its random stream, and what draws from it.

Knows token ids and logits; knows nothing about text, other sequences or the model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from ..arrays import Ids, Logits
from ..errors import LogitsError
from .config import GenerationConfig
from .processors import LogitsProcessor, build_processors
from .samplers import check_finite, greedy, make_generator, sample

__all__ = ["TokenChooser"]


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
    ) -> TokenChooser:
        """Return what chooses as ``config`` says for return sequence ``index`` of a prompt.

        ``prompt_length`` is the number of tokens in the prompt. The caller's own ``processors`` come where transformers
        has them, before temperature and what narrows the choice.
        """
        return cls(
            build_processors(config, prompt_length, own=processors),
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

    def fork(self) -> TokenChooser:
        """Return an independent copy, in the state that this one is in: it chooses as this one would."""
        fork = copy.copy(self)
        fork.processors, fork.generator = copy.deepcopy(self.processors), copy.deepcopy(self.generator)
        return fork
