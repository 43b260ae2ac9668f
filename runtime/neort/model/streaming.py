"""Texts that go on after prompts, for asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from ..arrays import Ids
from ..engine import Collector, Completion
from ..generation import AllowedTokensFunction, GenerationConfig, GenerationOptions, LogitsProcessor, StoppingCriterion
from ..prompts import Prompt, Prompts
from .generating import GeneratingModel, refuse_beams, refuse_several
from .requests import Brought

if TYPE_CHECKING:
    from ..asynchronous import AsyncStream, AsyncStreams

__all__ = ["StreamingModel"]


class StreamingModel(GeneratingModel):
    """A model that continues prompts for event loops."""

    def astream(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        **overrides: Unpack[GenerationOptions],
    ) -> AsyncStream:
        """As `stream`, for asyncio: ``async for piece in model.astream(...)``.

        Takes and raises what `stream` does, at the call itself. Leaving the loop, by whatever way, ends the sequence;
        in the middle of a prompt after one run of the prefill (256 tokens at most). Any number of streams run in one
        event loop, beside others in threads, and take no thread of their own.
        """
        from ..asynchronous import AsyncStream

        brought = Brought(logits_processor, stopping_criteria, prefix_allowed_tokens_fn, negative_prompt)
        return AsyncStream(self._engine, self._streamed(prompt, config, brought, overrides))

    def astreams(
        self, prompts: Prompts, config: GenerationConfig | None = None, **overrides: Unpack[GenerationOptions]
    ) -> AsyncStreams:
        """Continue a list of prompts for asyncio: ``async for number, piece in model.astreams(prompts)``.

        Sequence ``number`` is the one that `generate` returns in that place: prompt by prompt, its
        ``num_return_sequences`` side by side. Each token makes a piece, also where no text is certain yet. Leaving the
        loop ends all sequences, as with `astream`.

        Takes and raises what `generate` does for a list, at the call itself; ``num_beams`` must be 1.
        """
        from ..asynchronous import AsyncStreams

        options = self._options(config, overrides)
        refuse_beams(options)

        def collector(ids: Ids, prompt_index: int, index: int) -> Collector:
            chooser = self._chooser(ids, options, Brought(), prompt_index, index)
            return Collector(ids, options, index, self.tokenizer, chooser, streamed=True, every_token=True)

        encoded, count = self._encode_all(prompts), options.num_return_sequences
        collectors = list(self._collectors(encoded, count, collector, one=len(encoded) == 1))
        return AsyncStreams(self._engine, collectors)

    async def agenerate(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        **overrides: Unpack[GenerationOptions],
    ) -> Completion:
        """As `generate` for one prompt and one sequence, for asyncio; a cancelled task ends the sequence.

        Several prompts are decoded together all the same: ``await asyncio.gather(*map(model.agenerate, prompts))``.
        """
        from ..asynchronous import completed

        brought = Brought(logits_processor, stopping_criteria, prefix_allowed_tokens_fn, negative_prompt)
        options = self._options(config, overrides)
        refuse_several(options, "use generate, or several calls")
        return await completed(self._engine, self._collector(self._encode(prompt), options=options, brought=brought))
