"""Requests as bytes: right ones, ones with random fields and values, and ones of which some bytes are changed."""

from __future__ import annotations

import json
import random
from typing import Any

__all__ = ["noisy", "request"]

PATHS = ("/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize", "/v1/prefixes", "/v1/models", "/", "/metrics")
FIELDS = (
    *("prompt", "max_tokens", "temperature", "top_p", "top_k", "n", "best_of", "echo", "logprobs", "stop", "seed"),
    *("logit_bias", "stream", "stream_options", "min_tokens", "stop_token_ids", "prompt_logprobs", "response_format"),
    *("truncate_prompt_tokens", "model", "input", "tokens", "action", "filename"),
)
SIMPLE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 1 << 31, 1 << 70, 0.5, -0.5, 1e300),
    *("", "a", "\0", "\u00e9\U0001f642" * 9, "x" * 999),
)


def request(body: bytes, path: str = "/v1/completions", method: str = "POST", length: int | None = None) -> bytes:
    """A request as bytes; ``length`` is what it says the body has."""
    size = len(body) if length is None else length
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode("latin-1") + body


def noisy(source: random.Random) -> tuple[bytes, bool]:
    """A request of random fields and values, or one with some bytes changed; and whether it is cut short."""
    chosen = source.sample(FIELDS, source.randint(0, 6))
    body: dict[str, Any] = {"prompt": "a", "max_tokens": 2} if source.random() < 0.7 else {}
    body |= {name: value(source, 0) for name in chosen}
    if source.random() < 0.9 and isinstance(body.get("max_tokens"), int):
        body["max_tokens"] = min(body["max_tokens"], 8)  # most are over soon
    sent = bytearray(request(json.dumps(body).encode(), source.choice(PATHS), source.choice(("POST", "POST", "GET"))))
    if source.random() < 0.3:
        for _ in range(source.randint(1, 4)):
            sent[source.randrange(len(sent))] = source.randrange(256)
    if source.random() < 0.1:
        return bytes(sent[: source.randrange(len(sent))]), True
    return bytes(sent), False


def value(source: random.Random, depth: int) -> Any:
    if depth < 3 and source.random() < 0.25:
        return [value(source, depth + 1) for _ in range(source.randint(0, 4))]
    if depth < 3 and source.random() < 0.15:
        names = [source.choice(("type", "json", "1", "a")) for _ in range(source.randint(0, 3))]
        return {name: value(source, depth + 1) for name in names}
    return source.choice(SIMPLE)
