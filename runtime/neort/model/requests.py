"""What a call of a model is given besides options, and its requests while they are in the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..engine import Collecting, Engine
from ..errors import ArgumentTypeError
from ..generation import AllowedTokensFunction, LogitsProcessor, PrefixAllowed, StoppingCriterion
from ..prompts import Prompt
from ..wording import shortened

__all__ = ["Brought", "Submitted"]


@dataclass(frozen=True, eq=False)
class Brought:
    """What a caller brings along that is no plain value, hence no option."""

    logits_processor: Sequence[LogitsProcessor] | None = None
    stopping_criteria: Sequence[StoppingCriterion] | None = None
    prefix_allowed_tokens_fn: AllowedTokensFunction | None = None
    negative_prompt: Prompt | None = None

    def prefix_allowed(self, prompt_index: int) -> PrefixAllowed | None:
        """What rules tokens out by the caller's function. Raises ArgumentTypeError for what cannot be called."""
        function = self.prefix_allowed_tokens_fn
        if function is None:
            return None
        if not callable(function):
            raise ArgumentTypeError(
                f"prefix_allowed_tokens_fn is {shortened(function)}; it takes a function of a prompt's number and ids"
            )
        return PrefixAllowed(function, prompt_index)


class Submitted:
    """Context in which requests are in the engine; on leaving, by whatever way, none of them stays there.

    Nor where the context is dropped without having been left, as Ctrl-C may have it between two lines.
    """

    def __init__(self, engine: Engine, collectors: Sequence[Collecting]) -> None:
        self._engine, self._collectors = engine, collectors

    def __enter__(self) -> None:
        for collector in self._collectors:
            self._engine.check(collector.request)
        try:
            for collector in self._collectors:
                self._engine.submit(collector.request)
        except BaseException:
            self.__del__()  # those before: nobody waits for them
            raise

    def __exit__(self, *_: object) -> None:
        self.__del__()

    def __del__(self) -> None:
        for collector in self._collectors:
            self._engine.cancel(collector.request)
