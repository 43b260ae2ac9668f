"""What a handler is given, and what it gives back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...model import Model

__all__ = ["Answer", "Call", "Events", "Finished", "Limits", "Observer", "ServedModel", "Silent", "failure_of"]


@dataclass(frozen=True)
class Call:
    """The request around a payload.

    Attributes:
        request_id: what the answer's id is made of, and what the client may look for in a log.
        arrived: when the request came, by `time.perf_counter`.
        timeout: seconds from then on after which the request ends with an error; None: never.
        priority: requests of lower numbers go first, as vLLM has it; a request's own field counts instead.
    """

    request_id: str
    arrived: float
    timeout: float | None = None
    priority: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer that is complete: a JSON document."""

    body: dict[str, Any]
    status: int = 200


@dataclass(frozen=True, eq=False)
class Events:
    """An answer that comes in parts: each chunk is one server-sent event.

    The first one is to be awaited before a status is sent, so that an error before it has its own status. What is
    raised later becomes an event of its own (`error_body`). Whoever takes the chunks sends ``data: [DONE]`` at their
    end, and calls ``chunks.aclose()`` in any case, which ends the sequences in the engine at once.
    """

    chunks: AsyncGenerator[dict[str, Any], None]


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model and the name that requests know it by.

    Attributes:
        name: what stands in the field "model" of requests.
        model: the loaded model.
        created: seconds since 1970, for the list of models.
        chat_template: Jinja source that makes one text of a chat's messages; None: the model takes no chats.
    """

    name: str
    model: Model
    created: int
    chat_template: str | None = None


def failure_of(served: ServedModel) -> BaseException | None:
    """What has ended a model's engine; None where it works, or may again once it has less to do."""
    error = served.model.engine_figures.failed
    return None if isinstance(error, MemoryError) else error


@dataclass(frozen=True)
class Limits:
    """How much a single request may ask for.

    Attributes:
        max_prompts: prompts of a completion, or texts of an embedding.
        max_choices: n and best_of.
        max_sequences: prompts times choices.
        max_tokens: new tokens of a choice; None: as many as the model's positions allow.
        max_logprobs: most probable tokens named in each place.
        max_prefixes: prefixes that are held in memory by POST /v1/prefixes.
        prefix_folder: where POST /v1/prefixes saves and loads; None: nowhere.
    """

    max_prompts: int = 256
    max_choices: int = 128
    max_sequences: int = 512
    max_tokens: int | None = None
    max_logprobs: int = 20
    max_prefixes: int = 16
    prefix_folder: Path | None = None


@dataclass(frozen=True)
class Finished:
    """The figures of one sequence that came to its end; times are in seconds.

    ``e2e_seconds`` count from the request's arrival to the sequence's end.
    """

    reason: str
    prompt_tokens: int
    completion_tokens: int
    reused_tokens: int
    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float
    e2e_seconds: float
    drafted: int
    accepted: int


class Observer(Protocol):
    """Who wants to know what becomes of requests: metrics are made from these calls, in the event loop's thread.

    A request is a call of completions, chats or embeddings; each has one or more sequences, of which `first_token`,
    `token_gap` and `finished` tell. Each `request_started` is followed by one `request_ended`.
    """

    def request_started(self, model: str) -> None:
        """A request for a model that exists has been found sound."""

    def first_token(self, model: str, seconds: float) -> None:
        """A sequence has its first token so long after the request's arrival."""

    def token_gap(self, model: str, seconds: float) -> None:
        """Time between two tokens of a sequence."""

    def finished(self, model: str, figures: Finished) -> None:
        """A sequence came to its end; embeddings have one of no new tokens for each text."""

    def failed(self, model: str, status: int) -> None:
        """A request ended with an error of this status, 499 where its client went away."""

    def request_ended(self, model: str) -> None:
        """A request is over, by whatever way."""


class Silent:
    """An observer that takes no notice."""

    def request_started(self, model: str) -> None: ...
    def first_token(self, model: str, seconds: float) -> None: ...
    def token_gap(self, model: str, seconds: float) -> None: ...
    def finished(self, model: str, figures: Finished) -> None: ...
    def failed(self, model: str, status: int) -> None: ...
    def request_ended(self, model: str) -> None: ...
