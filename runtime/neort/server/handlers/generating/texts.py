"""What is told about the tokens of one sequence: log-probabilities with offsets, ids, and what ended it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....engine import Collector
from ....generation import GenerationConfig, TokenLogprob
from ....tokenizer import Tokenizer
from ...protocol.logprobs import Offsets, TokenNames, completion_logprobs

__all__ = ["EchoedPrompt", "NewTokens", "reason_for"]


class EchoedPrompt:
    """A prompt that its texts begin with."""

    def __init__(self, ids: Sequence[int], tokenizer: Tokenizer) -> None:
        self.ids = ids
        self.text = tokenizer.decode(ids, skip_special_tokens=False)
        offsets = Offsets()
        self.offsets = [offsets.before(tokenizer.all_bytes(token_id)) for token_id in ids]


class NewTokens:
    """The new tokens of a sequence, in order, whose text may follow an echoed prompt."""

    def __init__(
        self, collector: Collector, tokenizer: Tokenizer, names: TokenNames, count: int, echo: EchoedPrompt | None
    ) -> None:
        """``count`` most probable tokens are told in each place."""
        self._collector, self._tokenizer, self._names = collector, tokenizer, names
        self._count, self._echo = count, echo
        self._offsets = Offsets(0 if echo is None else len(echo.text))
        self._begun = False

    def logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Those of the next tokens, after those of an echoed prompt where they are the first."""
        pairs: list[tuple[int, TokenLogprob | None]] = []
        offsets: list[int] = []
        if self._echo is not None and not self._begun:
            known = self._collector.prompt_logprobs or (None,) * len(self._echo.ids)
            pairs += zip(self._echo.ids, known, strict=True)
            offsets += self._echo.offsets
        self._begun = True
        pairs += [(token.token_id, token) for token in tokens]
        config = self._collector.request.config
        offsets += [self._offsets.before(self._visible(token.token_id, config)) for token in tokens]
        return completion_logprobs(pairs, offsets, self._count, self._names)

    def _visible(self, token_id: int, config: GenerationConfig) -> bytes:
        """What a token adds to the text."""
        if token_id in config.eos_token_ids and not config.include_stop_str_in_output:
            return b""
        known = self._tokenizer
        return known.token_bytes(token_id) if config.skip_special_tokens else known.all_bytes(token_id)


def reason_for(stop_reason: str | int | None, stop_ids: Sequence[int]) -> str | int | None:
    """vLLM's stop_reason: the stop string or the token of the request that ended a text; else None."""
    return stop_reason if isinstance(stop_reason, str) or stop_reason in stop_ids else None
