"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..fields import Nested, Unused, wire
from ..kinds import AnyValue, Array, Boolean, Choice, Integer, OneOf, Text
from .common import ELSEWHERE, UNUSED
from .sampling import GeneratingFields

__all__ = ["ChatMessage", "ChatRequest", "TextPart"]


@dataclass(frozen=True, kw_only=True)
class TextPart:
    """A part of a message's content."""

    type: str = wire(Choice(("text",)), "the kind of part: text", required=True)
    text: str = wire(Text(), "the text", required=True)


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    """One message."""

    role: str = wire(
        Text(empty=False, longest=64), "system, user, assistant, or what else the template knows", required=True
    )
    content: Any = wire(
        OneOf((Text(), Array(Nested(TextPart), 1, 1000)), "a string or a list of parts of type text"),
        "what is said",
        required=True,
    )
    name: str | None = wire(Text(longest=256), "the speaker's name, for templates that know it")

    UNUSED: ClassVar[Mapping[str, Unused]] = {
        "refusal": Unused("a message is its content", ()),
        "tool_calls": Unused("these models call no tools", ([],)),
        "tool_call_id": Unused("these models call no tools", ()),
        "function_call": Unused("these models call no functions", ()),
        "audio": Unused("these models know text alone", ()),
        "annotations": Unused("a message is its content"),
        "reasoning": Unused("a message is its content", ()),
    }

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


@dataclass(frozen=True, kw_only=True)
class ChatRequest(GeneratingFields):
    """A chat to go on with."""

    messages: list[ChatMessage] = wire(Array(Nested(ChatMessage), 1, 4096), "what was said so far", required=True)
    max_tokens: int | None = wire(Integer(1, "max_tokens"), "most new tokens; else as many as fit")
    max_completion_tokens: int | None = wire(Integer(1, "max_tokens"), "the same, by OpenAI's newer name")
    logprobs: bool = wire(Boolean(), "tell the log-probabilities of the tokens", default=False)
    top_logprobs: int | None = wire(
        Integer(0, "max_logprobs"), "how many most probable ones to tell in each place; needs logprobs"
    )
    add_generation_prompt: bool = wire(Boolean(), "end the prompt where the assistant begins to speak", default=True)
    chat_template_kwargs: dict[str, Any] | None = wire(AnyValue(object_only=True), "further variables of the template")

    UNUSED: ClassVar = {
        "tools": Unused("these models call no tools", ([],)),
        "tool_choice": Unused("these models call no tools", ("none",)),
        "parallel_tool_calls": Unused("these models call no tools"),
        "functions": Unused("these models call no functions", ([],)),
        "function_call": Unused("these models call no functions", ("none",)),
        "audio": Unused("these models know text alone", ()),
        "modalities": Unused("these models know text alone", (["text"],)),
        "prediction": Unused("drafts are for the server to make", ()),
        "reasoning_effort": Unused("these models have no reasoning apart from the text"),
        "include_reasoning": Unused("these models have no reasoning apart from the text"),
        "verbosity": Unused("use max_tokens for shorter answers"),
        "web_search_options": Unused("the server opens no connection", ()),
        "documents": Unused("put them into a message", ([],)),
        "chat_template": Unused("a template is program text, which the server's operator gives", ()),
        "continue_final_message": Unused("use POST /v1/completions to continue a text", (False,)),
        "mm_processor_kwargs": Unused("these models know text alone", ()),
        "echo": Unused("use POST /v1/completions for echo", (False,)),
        "best_of": Unused("use n, or POST /v1/completions", (1,)),
        **UNUSED,
    }
    ELSEWHERE: ClassVar = {"prompt": "use messages, or POST /v1/completions", **ELSEWHERE}

    @property
    def most_tokens(self) -> int | None:
        """The greatest number of new tokens, by either name."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
