"""POST /v1/completions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ....engine import Completion, Piece
from ...protocol import RequestError
from ...protocol.logprobs import prompt_logprobs
from ...protocol.requests import CompletionRequest
from ...protocol.requests.completions import DEFAULT_MAX_TOKENS
from ..contract import Call, ServedModel
from .forms import Form, Prepared
from .options import check_stream, options_of, stop_ids
from .prompts import check_length, ids_of, prompts_of
from .texts import EchoedPrompt, NewTokens, reason_for

__all__ = ["CompletionForm", "check", "prepare", "with_max_tokens"]


def with_max_tokens(request: CompletionRequest) -> CompletionRequest:
    """The request with max_tokens where it has them by their other name."""
    if request.max_tokens is not None or request.max_completion_tokens is None:
        return request
    return dataclasses.replace(request, max_tokens=request.max_completion_tokens)


def check(request: CompletionRequest) -> None:
    """Raise RequestError for fields that do not go together."""
    best_of, n = request.best_of, request.n
    if request.max_tokens == 0 and not request.echo:
        raise RequestError(
            400,
            "max_tokens is 0, which only makes sense with echo; ask for one token at least, or echo",
            param="max_tokens",
        )
    if best_of is not None and best_of < n:
        raise RequestError(400, f"best_of is {best_of} and n is {n}; best_of must be at least n", param="best_of")
    if request.stream and best_of is not None and best_of > n:
        message = f"best_of is {best_of} and n is {n} in a stream, whose texts cannot be ranked; use n alone"
        raise RequestError(400, message, param="best_of")
    check_stream(request)


def prepare(request: CompletionRequest, served: ServedModel, most_tokens: int) -> Prepared:
    """Encode prompts, compile grammars, and check that all can be served.

    ``most_tokens`` is the server's limit of new ones. Raises what `Model.generate` does.
    """
    model = served.model
    count = request.best_of or request.n
    logprobs = request.logprobs
    if logprobs is None and count > request.n:
        logprobs = 0
    options = options_of(
        request,
        model.generation_config,
        max_tokens=request.max_tokens,
        default_max_tokens=min(DEFAULT_MAX_TOKENS, most_tokens),
        logprobs=logprobs,
        count=count,
    )
    if request.echo and logprobs is not None:
        options = options.replace(prompt_logprobs=max(logprobs, request.prompt_logprobs or 0))
    if request.max_tokens == 0:
        options = options.replace(overflow="stop")
    room = max(1, model.spec.max_position_embeddings - options.max_new_tokens)
    special = request.add_special_tokens is not False
    prompts = [
        ids_of(prompt, model, special=special, truncate=request.truncate_prompt_tokens, room=room)
        for prompt in prompts_of(request.prompt)
    ]
    for ids in prompts:
        check_length(ids, request.max_tokens, model.spec.max_position_embeddings, "prompt")
    return Prepared(prompts, count, model.astreams(prompts, options))


class CompletionForm(Form):
    """OpenAI's completion, with vLLM's further fields."""

    object_name = chunk_name = "text_completion"
    id_prefix = "cmpl"

    def __init__(self, served: ServedModel, request: CompletionRequest, prepared: Prepared, call: Call) -> None:
        super().__init__(served, request, prepared, call)
        self._request = request
        tokenizer = served.model.tokenizer
        self._echoes = [EchoedPrompt(ids, tokenizer) for ids in prepared.prompts] if request.echo else []
        self._tokens = [
            NewTokens(collector, tokenizer, self.names, request.logprobs or 0, self._echo_of(i))
            for i, collector in enumerate(self.collectors)
        ]

    def piece(self, number: int, piece: Piece, *, first: bool) -> dict[str, Any]:
        """See `Form.piece`."""
        nothing = self._request.max_tokens == 0
        echo = self._echo_of(number) if first else None
        text = "" if nothing else piece.text
        choice = {
            "index": number,
            "text": text if echo is None else echo.text + text,
            "logprobs": self._logprobs(number, () if nothing else piece.logprobs or ()),
            "finish_reason": self._finish_reason(piece.finish_reason),
            "stop_reason": None if nothing else reason_for(piece.stop_reason, stop_ids(self._request)),
        }
        if self._request.return_token_ids:
            choice["prompt_token_ids"] = list(self._prompt_of(number)) if first else None
            choice["token_ids"] = [] if nothing else list(piece.token_ids)
        return choice

    def choices(self, completions: Sequence[Completion]) -> list[dict[str, Any]]:
        """See `Form.choices`."""
        count, n = self.prepared.count, self._request.n
        chosen: list[int] = []
        for start in range(0, len(completions), count):
            numbers = list(range(start, start + count))
            if count > n:
                numbers.sort(key=lambda number: -_mean_logprob(completions[number]))
            chosen += numbers[:n]
        return [self._choice(index, number, completions[number]) for index, number in enumerate(chosen)]

    def counted(self, new_tokens: int) -> int:
        """See `Form.counted`: none where only the prompt is wanted."""
        return 0 if self._request.max_tokens == 0 else new_tokens

    def _choice(self, index: int, number: int, completion: Completion) -> dict[str, Any]:
        nothing = self._request.max_tokens == 0
        echo = self._echo_of(number)
        choice = {
            "index": index,
            "text": ("" if echo is None else echo.text) + ("" if nothing else completion.text),
            "logprobs": self._logprobs(number, () if nothing else completion.logprobs or ()),
            "finish_reason": self._finish_reason(completion.finish_reason),
            "stop_reason": None if nothing else reason_for(completion.stop_reason, stop_ids(self._request)),
            "prompt_logprobs": None,
        }
        if self._request.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs(
                completion.prompt_logprobs or (), self._request.prompt_logprobs, self.names
            )
        if self._request.return_token_ids:
            choice["prompt_token_ids"] = list(self._prompt_of(number))
            choice["token_ids"] = [] if nothing else list(completion.token_ids)
        return choice

    def _logprobs(self, number: int, tokens: Sequence[Any]) -> dict[str, Any] | None:
        return None if self._request.logprobs is None else self._tokens[number].logprobs(tokens)

    def _finish_reason(self, reason: str | None) -> str | None:
        return "length" if reason is not None and self._request.max_tokens == 0 else reason

    def _prompt_of(self, number: int) -> Sequence[int]:
        return self.prepared.prompts[number // self.prepared.count]

    def _echo_of(self, number: int) -> EchoedPrompt | None:
        return self._echoes[number // self.prepared.count] if self._echoes else None


def _mean_logprob(completion: Completion) -> float:
    """The mean log-probability of a text's tokens, by which best_of ranks."""
    known = completion.logprobs or ()
    return math.fsum(token.logprob for token in known) / max(len(known), 1)
