"""Chooses a sequence's tokens: its processors, its random stream, and what draws from it.

Knows token ids and logits; knows nothing about text, other sequences or the model.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from ..arrays import Ids, Logits
from ..errors import ArgumentTypeError, ConfigError, LogitsError
from ..tokenizer import Tokenizer
from .config import GenerationConfig
from .constraints import Constraint
from .processors import Filters, LogitsProcessor, PrefixAllowed, Temperature, build_processors, changes_argmax
from .samplers import check_finite, greedy, make_generator, sample
from .stopping import StoppingCriterion, is_met

__all__ = ["TokenChooser", "own_criteria", "own_processors"]

_Own = TypeVar("_Own")


class TokenChooser:
    """Chooses the next token of one sequence, again and again; its processors and its generator may have a state."""

    def __init__(
        self,
        processors: Sequence[LogitsProcessor] = (),
        generator: np.random.Generator | None = None,
        *,
        criteria: Sequence[StoppingCriterion] = (),
        repairs: bool = False,
    ) -> None:
        """``processors`` are applied in their order; ``generator`` draws, None takes the largest logit (greedy).

        ``criteria`` end the sequence; ``repairs`` says that the processors cope with logits that are no numbers.
        """
        self.processors = list(processors)
        self.generator = generator
        self.criteria = list(criteria)
        self.repairs = repairs

    @classmethod
    def from_config(
        cls,
        config: GenerationConfig,
        prompt_length: int,
        index: int = 0,
        *,
        processors: Sequence[LogitsProcessor] = (),
        prefix_allowed: PrefixAllowed | None = None,
        tokenizer: Tokenizer | None = None,
        criteria: Sequence[StoppingCriterion] = (),
        constraint: Constraint | None = None,
    ) -> TokenChooser:
        """Return what chooses as ``config`` says for return sequence ``index`` of a prompt.

        ``prompt_length`` is the number of tokens in the prompt. The caller's own ``processors`` and ``prefix_allowed``
        come where transformers has them, before temperature and what narrows the choice; his ``criteria`` end the
        sequence. ``tokenizer`` finds DRY's sequence breakers. Greedy decoding does without what cannot change it.

        With beams, which are scored, everything counts. ``constraint`` is that of the grammar in ``config``, which
        `Grammars` makes.

        Raises ConfigError where ``config`` has a grammar and there is no ``constraint``.
        """
        if config.constraint is not None and constraint is None:
            raise ConfigError(f"{config.constraint[0]} needs a tokenizer: give it to Model.generate or Model.stream")
        chain = build_processors(
            config,
            prompt_length,
            own=processors,
            prefix_allowed=prefix_allowed,
            constraint=constraint,
            tokenizer=tokenizer,
            index=index,
            least=config.least_kept,
        )
        every = config.do_sample or config.num_beams > 1
        return cls(
            chain if every else list(filter(changes_argmax, chain)),
            make_generator(config.seed, index) if config.do_sample else None,
            criteria=criteria,
            repairs=config.remove_invalid_values,
        )

    def choose(self, ids: Ids, logits: Logits) -> int:
        """Return the token to follow ``ids``, int64 [T], those of the prompt and of the text so far.

        ``logits``, float32 [V], are the model's.

        Raises LogitsError where they are NaN, +inf, or all -inf, or where the processors leave no token.
        """
        if not self.processors and self.generator is None:
            token = greedy(logits)
            if not math.isfinite(logits[token]):  # the first NaN where there is one
                check_finite(logits, len(ids))
            return token
        if self.generator is not None:
            return self._drawn(ids, logits, self.generator)
        if not self.repairs:
            check_finite(logits, len(ids))
        for processor in self.processors:
            logits = processor(ids, logits)
        token = greedy(logits)
        if not logits[token] > -np.inf:
            raise LogitsError(
                f"the logits processors leave no token at position {len(ids)}: the largest logit is {logits[token]}. "
                "Check the options that rule out tokens."
            )
        return token

    def _drawn(self, ids: Ids, logits: Logits, generator: np.random.Generator) -> int:
        """A token from what the processors leave, as if all of the vocabulary went through each of them."""
        chain = self.processors.copy()
        filters = temperature = None
        if chain and isinstance(last := chain[-1], Filters):
            filters = last
            chain.pop()
            if chain and isinstance(last := chain[-1], Temperature):
                temperature = last
                chain.pop()
        if (chain or filters is None) and not self.repairs:
            check_finite(logits, len(ids))
        for processor in chain:
            logits = processor(ids, logits)
        if filters is None:
            return sample(logits, generator)
        tokens, candidates = filters.candidates(logits, temperature)
        if tokens is None and not chain and not self.repairs:  # with tokens the logits are sound
            check_finite(logits, len(ids))
        drawn = sample(candidates, generator)
        return drawn if tokens is None else int(tokens[drawn])

    @property
    def may_end(self) -> bool:
        """Whether `ends` has anything to look at."""
        return bool(self.criteria) or any(isinstance(each, Constraint) for each in self.processors)

    def ends(self, ids: Ids) -> bool:
        """Return whether the caller's criteria end the sequence with ``ids``, or a grammar allows nothing after it.

        Raises what criteria do, and what `choose` does.
        """
        complete = any(isinstance(each, Constraint) and each.is_complete(ids) for each in self.processors)
        return is_met(self.criteria, ids) or complete

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
    _check_callables(processors, "logits_processor", "functions of ids and logits", "neort.LogitsProcessor")
    return list(processors or ()) if first else _copies(processors or ())


def own_criteria(criteria: Sequence[StoppingCriterion] | None, *, first: bool) -> list[StoppingCriterion]:
    """Return the caller's own stopping criteria for one sequence of a call, as `own_processors` does processors."""
    _check_callables(criteria, "stopping_criteria", "functions of ids", "neort.StoppingCriterion")
    return list(criteria or ()) if first else _copies(criteria or (), "stopping criterion")


def _check_callables(given: Any, name: str, kind: str, protocol: str) -> None:
    """Raises ArgumentTypeError for what is neither None nor a list or tuple of callables."""
    if given is None:
        return
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise ArgumentTypeError(f"{name} is {given!r}; it takes a list of {kind}, also for a single one")
    for each in given:
        if not callable(each):
            raise ArgumentTypeError(f"{name} holds {each!r}; it takes {kind}, see {protocol}")


def _copies(originals: Sequence[_Own], kind: str = "logits processor") -> list[_Own]:
    """Deep copies, which share what the originals share. Raises ConfigError where there can be none."""
    memo: dict[int, Any] = {}
    return [_copy(original, memo, kind) for original in originals]


def _copy(original: _Own, memo: dict[int, Any], kind: str) -> _Own:
    try:
        return copy.deepcopy(original, memo)
    except Exception as error:  # whatever the parts of a caller's object raise
        raise ConfigError(
            f"the {kind} {original!r} cannot be copied ({error}), which several sequences or drafts need; "
            "generate one sequence without a draft model, or define its __deepcopy__"
        ) from error
