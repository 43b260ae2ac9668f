"""The bodies of answers, as OpenAI's and vLLM's clients read them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...arrays import Floats

__all__ = ["Usage", "embedding", "embedding_list", "model_entry", "model_list"]


@dataclass(frozen=True)
class Usage:
    """How many tokens a request took: prompts', new ones', and those of prompts that were not read again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    def body(self) -> dict[str, Any]:
        """OpenAI's usage."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


def embedding(index: int, vector: Floats, encoding_format: str) -> dict[str, Any]:
    """One vector, float32 [K], as numbers or as the base64 of its little-endian bytes."""
    numbers: Any = vector.tolist()
    if encoding_format == "base64":
        numbers = base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return {"object": "embedding", "index": index, "embedding": numbers}


def embedding_list(
    model: str, request_id: str, created: int, entries: Sequence[dict[str, Any]], prompt_tokens: int
) -> dict[str, Any]:
    """The vectors of a request."""
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens, "completion_tokens": 0}
    return {
        "id": f"embd-{request_id}",
        "object": "list",
        "created": created,
        "model": model,
        "data": list(entries),
        "usage": usage,
    }


def model_entry(name: str, created: int, positions: int) -> dict[str, Any]:
    """One model."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "neort",
        "root": name,
        "parent": None,
        "max_model_len": positions,
        "permission": [],
    }


def model_list(entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """All models."""
    return {"object": "list", "data": list(entries)}
