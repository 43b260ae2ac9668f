"""What the routes do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..protocol import RequestError
from .contract import Answer, Call, Events, Limits, Observer, ServedModel, Silent

__all__ = ["Handlers"]


class Handlers:
    """A method for each route: decoded JSON in, an `Answer` or `Events` out.

    Each raises RequestError, or what `as_request_error` makes one of. Cancelling the task of one ends its sequences in
    the engine at once. All run in one event loop.
    """

    def __init__(
        self, models: Sequence[ServedModel], limits: Limits | None = None, observer: Observer | None = None
    ) -> None:
        """``models`` are those that requests may name, each by a name of its own; the first one is for requests
        that name none."""
        self.served = {each.name: each for each in models}
        self.limits = limits or Limits()
        self.observer = observer or Silent()

    async def completions(self, payload: object, call: Call) -> Answer | Events:
        """POST /v1/completions."""
        raise RequestError(501, "not written yet")

    async def chat_completions(self, payload: object, call: Call) -> Answer | Events:
        """POST /v1/chat/completions."""
        raise RequestError(501, "not written yet")

    async def embeddings(self, payload: object, call: Call) -> Answer:
        """POST /v1/embeddings."""
        raise RequestError(501, "not written yet")

    async def prefixes(self, payload: object, call: Call) -> Answer:
        """POST /v1/prefixes: {"action": "save" | "load" | "release", ...}."""
        raise RequestError(501, "not written yet")

    async def tokenize(self, payload: object, call: Call) -> Answer:
        """POST /tokenize."""
        raise RequestError(501, "not written yet")

    async def detokenize(self, payload: object, call: Call) -> Answer:
        """POST /detokenize."""
        raise RequestError(501, "not written yet")

    async def tokenizer_info(self, payload: object, call: Call) -> Answer:
        """GET /tokenizer_info; the payload is {"model": name} from the query, or {}."""
        raise RequestError(501, "not written yet")

    async def models(self, payload: object, call: Call) -> Answer:
        """GET /v1/models; the payload is {}."""
        raise RequestError(501, "not written yet")

    async def model(self, payload: object, call: Call) -> Answer:
        """GET /v1/models/{model}; the payload is {"model": name} from the path."""
        raise RequestError(501, "not written yet")

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI 3.1 document of all routes."""
        raise RequestError(501, "not written yet")

    async def close(self) -> None:
        """Release what is held: prefixes, and the threads for long texts."""
