"""POST /v1/completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..fields import Unused, wire
from ..kinds import Boolean, Integer
from .common import ANY_PROMPT, ELSEWHERE, UNUSED
from .sampling import GeneratingFields

__all__ = ["DEFAULT_MAX_TOKENS", "CompletionRequest"]

DEFAULT_MAX_TOKENS = 16  # as OpenAI has it


@dataclass(frozen=True, kw_only=True)
class CompletionRequest(GeneratingFields):
    """Prompts to continue."""

    prompt: Any = wire(ANY_PROMPT, "what to continue: text, token ids, or a list of these", required=True)
    max_tokens: int | None = wire(
        Integer(0, "max_tokens"), f"most new tokens, {DEFAULT_MAX_TOKENS} by itself; 0 only with echo"
    )
    max_completion_tokens: int | None = wire(
        Integer(1, "max_tokens"), "the same by the name that chats have, where there is no max_tokens"
    )
    best_of: int | None = wire(
        Integer(1, "max_choices"), "make so many texts and answer with the n of the best mean log-probability"
    )
    echo: bool = wire(Boolean(), "begin each text with its prompt", default=False)
    logprobs: int | None = wire(
        Integer(0, "max_logprobs"), "log-probabilities of the tokens, with so many most probable ones in each place"
    )

    UNUSED: ClassVar = {
        "suffix": Unused("these models continue a text and fill no gap before a suffix", ()),
        **UNUSED,
    }
    ELSEWHERE: ClassVar = {
        "messages": "POST /v1/chat/completions takes messages; here it is prompt",
        "input": "use prompt",
        "top_logprobs": "use logprobs, the number of most probable tokens in each place",
        **ELSEWHERE,
    }
