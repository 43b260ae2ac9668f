"""The one table of routes: the application makes its own from it, and the OpenAPI document its paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ROUTES", "Route"]


@dataclass(frozen=True)
class Route:
    """One route.

    Attributes:
        method: of HTTP.
        path: with parameters in braces.
        handler: the name of a method of `Handlers`; of the application's own where ``app`` is true.
        summary: one sentence.
        request: the name of its request's schema, if it has a body.
        response: the name of its answer's schema.
        streams: whether the answer may be server-sent events.
        app: whether the application answers it by itself.
        open: whether it needs no key.
        media_type: of the answer.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: str
    summary: str
    request: str | None = None
    response: str | None = None
    streams: bool = False
    app: bool = False
    open: bool = False
    media_type: str = "application/json"


ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/completions", "completions", "Continue prompts.", "CompletionRequest", "Completion", True),
    Route(
        "POST",
        "/v1/chat/completions",
        "chat_completions",
        "Answer a chat, by a model with a chat template.",
        "ChatCompletionRequest",
        "ChatCompletion",
        True,
    ),
    Route("POST", "/v1/embeddings", "embeddings", "Make vectors of texts.", "EmbeddingRequest", "EmbeddingList"),
    Route("POST", "/v1/prefixes", "prefixes", "Save, load or release a prefix.", "PrefixRequest", "Prefix"),
    Route("GET", "/v1/models", "models", "List the models.", None, "ModelList"),
    Route("GET", "/v1/models/{model}", "model", "Describe a model.", None, "Model"),
    Route("POST", "/tokenize", "tokenize", "Turn a text into token ids.", "TokenizeRequest", "Tokens"),
    Route("POST", "/detokenize", "detokenize", "Turn token ids into text.", "DetokenizeRequest", "Detokenized"),
    Route("GET", "/tokenizer_info", "tokenizer_info", "Describe a model's tokenizer.", None, "TokenizerInfo"),
    Route("GET", "/health", "health", "Whether the process works.", None, "Health", app=True, open=True),
    Route("GET", "/ready", "ready", "Whether requests are taken.", None, "Health", app=True, open=True),
    Route("GET", "/version", "version", "The server's version.", None, "Version", app=True, open=True),
    Route("GET", "/metrics", "metrics", "Figures for Prometheus.", app=True, media_type="text/plain"),
    Route("GET", "/openapi.json", "openapi", "This document.", None, "Document", app=True, open=True),
    Route("GET", "/", "page", "A page to try the models on.", app=True, open=True, media_type="text/html"),
)
