"""The requests of all routes, each a dataclass whose fields describe themselves."""

from __future__ import annotations

from .chats import ChatMessage, ChatRequest
from .completions import CompletionRequest
from .others import DetokenizeRequest, EmbeddingRequest, NameRequest, PrefixRequest, TokenizeRequest
from .sampling import GeneratingFields, StreamOptions

__all__ = [
    "REQUESTS",
    "ChatMessage",
    "ChatRequest",
    "CompletionRequest",
    "DetokenizeRequest",
    "EmbeddingRequest",
    "GeneratingFields",
    "NameRequest",
    "PrefixRequest",
    "StreamOptions",
    "TokenizeRequest",
]

#: By the names that the table of routes and the OpenAPI document have for them.
REQUESTS: dict[str, type] = {
    "CompletionRequest": CompletionRequest,
    "ChatCompletionRequest": ChatRequest,
    "EmbeddingRequest": EmbeddingRequest,
    "PrefixRequest": PrefixRequest,
    "TokenizeRequest": TokenizeRequest,
    "DetokenizeRequest": DetokenizeRequest,
}
