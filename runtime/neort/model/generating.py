"""Texts that go on after prompts: whole, and piece by piece."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar, Unpack, overload

from ..arrays import Ids
from ..engine import BeamCollector, Collecting, Collector, Completion, Piece, check_ids
from ..errors import ArgumentTypeError, ConfigError
from ..generation import (
    AllowedTokensFunction,
    GenerationConfig,
    GenerationOptions,
    LogitsProcessor,
    StoppingCriterion,
    TokenChooser,
    own_criteria,
    own_processors,
)
from ..prompts import Prompt, Prompts, about, is_one_prompt
from .parts import ModelParts
from .requests import Brought, Submitted

__all__ = ["GeneratingModel", "refuse_beams", "refuse_several"]

Made = TypeVar("Made", bound=Collecting)


class GeneratingModel(ModelParts):
    """A model that continues prompts."""

    @overload
    def generate(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        num_return_sequences: int,
        **overrides: Unpack[GenerationOptions],
    ) -> list[Completion]: ...
    @overload
    def generate(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        **overrides: Unpack[GenerationOptions],
    ) -> Completion: ...
    @overload
    def generate(
        self,
        prompt: Prompts,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        num_return_sequences: int = ...,
        **overrides: Unpack[GenerationOptions],
    ) -> list[Completion]: ...
    def generate(
        self,
        prompt: Any,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        **overrides: Any,
    ) -> Completion | list[Completion]:
        """Continue one prompt, or a list of prompts together.

        A prompt is text or a sequence of token ids. ``config`` replaces the bundle's generation_config.json,
        ``overrides`` are single options of GenerationConfig on top of either. ``logits_processor`` are functions of
        your own, at transformers' place among those that follow from the options; ``stopping_criteria`` are functions
        of ids that end a sequence by returning True. The first sequence of the call gets the objects themselves,
        further ones get copies. ``prefix_allowed_tokens_fn`` takes the number of the prompt and ids, and returns the
        ids of the tokens that may come next. ``negative_prompt`` is what ``guidance_scale`` leads away from.

        With ``num_beams`` the sequences of a prompt are the best ones that a beam search finds, best first; it needs as
        many slots at once (``max_batch_size`` of `neort.load`). Guidance needs two for each sequence.

        Returns a Completion for one prompt; a list of them for a list of prompts (prompt by prompt, its sequences side
        by side) and wherever ``num_return_sequences`` is given in the call, even as 1.

        Raises PromptError for a prompt that is empty, too long or holds unknown ids; ArgumentTypeError for an unknown
        option or a wrong type; ConfigError for a value out of range, for more beams than slots, for a grammar that
        cannot be used, or for one prompt of which ``config`` alone wants several sequences; LogitsError when the model
        yields NaN, or where the options leave no token; MissingExtraError for a grammar where neort[grammar] is not
        installed.
        """
        options = self._options(config, overrides)
        brought = Brought(logits_processor, stopping_criteria, prefix_allowed_tokens_fn, negative_prompt)
        one = is_one_prompt(prompt)
        if one and "num_return_sequences" not in overrides:
            refuse_several(options, "give it in the call itself, which then returns a list")
        prompts = [self._encode(prompt)] if one else self._encode_all(prompt)
        count = 1 if options.num_beams > 1 else options.num_return_sequences
        make = functools.partial(self._collector, options=options, brought=brought)
        collectors = list(self._collectors(prompts, count, make, one=one))
        self._run(collectors)
        completions = [completion for collector in collectors for completion in collector.completions()]
        return completions[0] if one and "num_return_sequences" not in overrides else completions

    def stream(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        **overrides: Unpack[GenerationOptions],
    ) -> Generator[Piece, None, None]:
        """Continue one prompt and yield the text as it becomes certain; the joined pieces are `generate`'s text.

        Takes and raises what `generate` does, at the call itself; ``num_return_sequences`` and ``num_beams`` must be
        1. Dropping the iterator ends the sequence.
        """
        brought = Brought(logits_processor, stopping_criteria, prefix_allowed_tokens_fn, negative_prompt)
        collector = self._streamed(prompt, config, brought, overrides)
        self._engine.check(collector.request)
        return self._pieces(collector)

    def _streamed(self, prompt: Prompt, config: GenerationConfig | None, brought: Brought, overrides: Any) -> Collector:
        """What collects the only sequence of a prompt, piece by piece."""
        options = self._options(config, overrides)
        refuse_several(options, "use generate, or several streams")
        refuse_beams(options)
        ids, negative_ids = self._encode(prompt), self._negative(brought, options)
        chooser = self._chooser(ids, options, brought)
        return Collector(ids, options, 0, self.tokenizer, chooser, negative_ids, streamed=True)

    def _options(self, config: GenerationConfig | None, overrides: Any) -> GenerationConfig:
        if config is not None and not isinstance(config, GenerationConfig):
            raise ArgumentTypeError(f"config is a neort.GenerationConfig, not {type(config).__name__}")
        base = config or self.generation_config
        if base.eos_token_id is None and self.generation_config.eos_token_id is not None:
            base = base.replace(eos_token_id=self.generation_config.eos_token_id)
        return base.replace(**overrides)

    def _negative(self, brought: Brought, options: GenerationConfig) -> Ids | None:
        """The negative prompt's token ids. Raises ConfigError for one that has no effect."""
        if brought.negative_prompt is None:
            return None
        if not options.guides:
            raise ConfigError(
                f"negative_prompt has no effect with guidance_scale={options.guidance_scale}: set guidance_scale above "
                "1 to lead away from it, or leave it out"
            )
        with about("negative_prompt"):
            ids = self._encode(brought.negative_prompt)
            check_ids(ids, self.spec)
        return ids

    def _collectors(
        self, prompts: list[Ids], count: int, collector: Callable[[Ids, int, int], Made], *, one: bool
    ) -> Iterator[Made]:
        """What collects ``count`` sequences of each prompt, which can be served; an error says which of a list cannot.

        ``collector`` makes it of a prompt's ids, its number, and the sequence's.
        """
        for i, ids in enumerate(prompts):
            for index in range(count):
                made = collector(ids, i, index)
                with contextlib.nullcontext() if one else about(f"prompt {i} of the list"):
                    self._engine.check(made.request)
                yield made

    def _collector(
        self, ids: Ids, prompt_index: int = 0, index: int = 0, *, options: GenerationConfig, brought: Brought
    ) -> Collector | BeamCollector:
        """What collects return sequence ``index`` of a prompt, or all that a beam search finds."""
        chooser, negative_ids = (
            self._chooser(ids, options, brought, prompt_index, index),
            self._negative(brought, options),
        )
        if options.num_beams > 1:
            return BeamCollector(ids, options, self.tokenizer, chooser)
        return Collector(ids, options, index, self.tokenizer, chooser, negative_ids)

    def _chooser(
        self, ids: Ids, options: GenerationConfig, brought: Brought, prompt_index: int = 0, index: int = 0
    ) -> TokenChooser:
        first = prompt_index == index == 0
        return TokenChooser.from_config(
            options,
            len(ids),
            index,
            processors=own_processors(brought.logits_processor, first=first),
            prefix_allowed=brought.prefix_allowed(prompt_index),
            tokenizer=self.tokenizer,
            criteria=own_criteria(brought.stopping_criteria, first=first),
            constraint=self._grammars.constraint(options, len(ids)),
        )

    def _run(self, collectors: Sequence[Collecting]) -> None:
        """Take requests from their first step to their last."""
        with Submitted(self._engine, collectors):
            for collector in collectors:
                self._engine.next_event(collector.events)

    def _pieces(self, collector: Collector) -> Generator[Piece, None, None]:
        with Submitted(self._engine, [collector]):
            while (piece := self._engine.next_event(collector.events)) is not None:
                yield piece
        collector.completion()  # raises the error, if there was one


def refuse_beams(options: GenerationConfig) -> None:
    """Raise ConfigError for a beam search where text is to be told piece by piece."""
    if options.num_beams > 1:
        raise ConfigError(
            f"num_beams is {options.num_beams}, and no text of a beam search is certain before it ends; use "
            "generate, or num_beams=1"
        )


def refuse_several(options: GenerationConfig, remedy: str) -> None:
    """Raise ConfigError for more than one sequence where one is returned."""
    if options.num_return_sequences != 1:
        raise ConfigError(
            f"one prompt gives one sequence here, and num_return_sequences is {options.num_return_sequences}; {remedy}"
        )
