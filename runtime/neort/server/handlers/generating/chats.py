"""POST /v1/chat/completions, for models with a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....engine import Completion, Piece
from ...protocol import RequestError
from ...protocol.logprobs import chat_logprobs, prompt_logprobs
from ...protocol.requests import ChatRequest
from ..contract import ServedModel
from .forms import Form, Prepared
from .options import check_stream, options_of, stop_ids
from .prompts import check_length, ids_of
from .templates import ChatTemplate
from .texts import reason_for

__all__ = ["ChatForm", "check_chat", "prepare_chat"]


def check_chat(request: ChatRequest) -> None:
    """Raise RequestError for fields that do not go together."""
    if request.top_logprobs and not request.logprobs:
        message = f"top_logprobs is {request.top_logprobs} without logprobs; set logprobs=true, or leave it out"
        raise RequestError(400, message, param="top_logprobs")
    check_stream(request)


def prepare_chat(request: ChatRequest, served: ServedModel, template: ChatTemplate, most_tokens: int) -> Prepared:
    """Render and encode the messages, compile grammars, and check that all can be served.

    ``most_tokens`` is the server's limit of new ones. Raises what `Model.generate` does, and `ChatTemplate.render`.
    """
    model = served.model
    positions = model.spec.max_position_embeddings
    ids = ids_of(
        template.render(request),
        model,
        special=bool(request.add_special_tokens),  # the template writes them
        truncate=request.truncate_prompt_tokens,
        room=max(1, positions - (request.most_tokens or 1)),
    )
    check_length(ids, request.most_tokens, positions, "messages")
    options = options_of(
        request,
        model.generation_config,
        max_tokens=request.most_tokens,
        default_max_tokens=min(max(1, positions - len(ids)), most_tokens),
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        count=request.n,
    )
    return Prepared([ids], request.n, model.astreams([ids], options))


class ChatForm(Form):
    """OpenAI's chat completion, with vLLM's further fields."""

    object_name = "chat.completion"
    chunk_name = "chat.completion.chunk"
    id_prefix = "chatcmpl"

    def __init__(self, served: ServedModel, request: ChatRequest, prepared: Prepared, call: Any) -> None:
        super().__init__(served, request, prepared, call)
        self._request = request

    def piece(self, number: int, piece: Piece, *, first: bool) -> dict[str, Any]:
        """See `Form.piece`."""
        choice = {
            "index": number,
            "delta": {**({"role": "assistant"} if first else {}), "content": piece.text},
            "logprobs": self._logprobs(piece.logprobs),
            "finish_reason": piece.finish_reason,
            "stop_reason": reason_for(piece.stop_reason, stop_ids(self._request)),
        }
        return choice | ({"token_ids": list(piece.token_ids)} if self._request.return_token_ids else {})

    def choices(self, completions: Sequence[Completion]) -> list[dict[str, Any]]:
        """See `Form.choices`."""
        return [self._choice(index, completion) for index, completion in enumerate(completions)]

    def further(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """See `Form.further`: what is told about the prompt."""
        told: dict[str, Any] = {"prompt_logprobs": None}
        if self._request.prompt_logprobs is not None:
            known = completions[0].prompt_logprobs or ()
            told["prompt_logprobs"] = prompt_logprobs(known, self._request.prompt_logprobs, self.names)
        return told | ({"prompt_token_ids": list(self.prepared.prompts[0])} if self._request.return_token_ids else {})

    def _choice(self, index: int, completion: Completion) -> dict[str, Any]:
        choice = {
            "index": index,
            "message": {"role": "assistant", "content": completion.text, "refusal": None},
            "logprobs": self._logprobs(completion.logprobs),
            "finish_reason": completion.finish_reason,
            "stop_reason": reason_for(completion.stop_reason, stop_ids(self._request)),
        }
        return choice | ({"token_ids": list(completion.token_ids)} if self._request.return_token_ids else {})

    def _logprobs(self, tokens: Any) -> dict[str, Any] | None:
        if not self._request.logprobs:
            return None
        return chat_logprobs(tokens or (), self._request.top_logprobs or 0, self.names)
