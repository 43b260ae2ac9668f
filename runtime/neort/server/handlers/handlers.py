"""What the routes do: each finds the model, reads the request, and has it served."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...errors import ConfigError
from ...wording import shortened
from ..protocol import RequestError
from ..protocol.answers import model_entry, model_list
from ..protocol.document import document
from ..protocol.fields import read
from ..protocol.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    GeneratingFields,
    NameRequest,
    PrefixRequest,
    TokenizeRequest,
)
from ..protocol.routes import ROUTES
from .contract import Answer, Call, Events, Limits, Observer, ServedModel, Silent
from .embeddings import embedded
from .generating import (
    ChatForm,
    ChatTemplate,
    CompletionForm,
    Form,
    answered,
    check,
    check_chat,
    prepare,
    prepare_chat,
    prompts_of,
    size_of,
    streamed,
    with_max_tokens,
)
from .prefixes import Prefixes
from .preparing import Preparing
from .tokens import described, detokenized, tokenized

__all__ = ["Handlers"]

LONG = 20_000  # characters and ids that take the event loop some milliseconds
MOST_STOPPING = 2000  # characters of stop strings
MOST_CHOOSERS = 32  # sequences that are made ready in the event loop

Result = TypeVar("Result")
Request = TypeVar("Request", bound=GeneratingFields)
NO_TEMPLATE = (
    "the model {name} has no chat template, since it was trained to continue texts; use POST /v1/completions, or give "
    "a template where the server is started"
)


class Handlers:
    """A method for each route: decoded JSON in, an `Answer` or `Events` out.

    Each raises RequestError, or what `as_request_error` makes one of. Cancelling the task of one ends its sequences in
    the engine at once. All run in one event loop.
    """

    def __init__(
        self, models: Sequence[ServedModel], limits: Limits | None = None, observer: Observer | None = None
    ) -> None:
        """``models`` are those that requests may name; the first one is for requests that name none.

        Raises ConfigError for two models of one name, none at all, or a chat template that cannot be read;
        MissingExtraError for a template without jinja2.
        """
        self.served = {each.name: each for each in models}
        if len(self.served) < len(models) or not models:
            names = ", ".join(each.name for each in models) or "none"
            raise ConfigError(f"the models' names are {names}; give one model at least, and each a name of its own")
        self.limits = limits or Limits()
        self.observer = observer or Silent()
        self.bounds = _bounds(models, self.limits)
        self._templates = {
            each.name: ChatTemplate(
                each.chat_template, each.model.tokenizer, each.model.generation_config.eos_token_ids
            )
            for each in models
            if each.chat_template is not None
        }
        self._preparing = Preparing()
        self._prefixes = Prefixes(self.limits.prefix_folder, self.limits.max_prefixes)

    async def completions(self, payload: object, call: Call) -> Answer | Events:
        """POST /v1/completions."""
        request = with_max_tokens(read(CompletionRequest, payload, self.bounds))
        served = self._find(request.model)
        check(request)
        prompts = prompts_of(request.prompt)
        sequences = len(prompts) * (request.best_of or request.n)
        self._check_sequences(sequences, "prompt")
        slow = size_of(prompts) > LONG or sequences > MOST_CHOOSERS or _takes_long(request)
        request = _with_priority(request, call)
        prepared = await self._soon(
            functools.partial(prepare, request, served, self.bounds["max_tokens"]), call, slow=slow
        )
        return await self._run(CompletionForm(served, request, prepared, call), stream=request.stream)

    async def chat_completions(self, payload: object, call: Call) -> Answer | Events:
        """POST /v1/chat/completions."""
        request = read(ChatRequest, payload, self.bounds)
        served = self._find(request.model)
        template = self._templates.get(served.name)
        if template is None:
            raise RequestError(404, NO_TEMPLATE.format(name=served.name), param="model", code="no_chat_template")
        check_chat(request)
        self._check_sequences(request.n, "n")
        size = sum(len(message.text) for message in request.messages)
        slow = size > LONG or request.n > MOST_CHOOSERS or _takes_long(request)
        request = _with_priority(request, call)
        prepared = await self._soon(
            functools.partial(prepare_chat, request, served, template, self.bounds["max_tokens"]), call, slow=slow
        )
        return await self._run(ChatForm(served, request, prepared, call), stream=request.stream)

    async def embeddings(self, payload: object, call: Call) -> Answer:
        """POST /v1/embeddings."""
        request = read(EmbeddingRequest, payload, self.bounds)
        served = self._find(request.model)
        return Answer(await embedded(request, served, call, self.observer, self._preparing))

    async def prefixes(self, payload: object, call: Call) -> Answer:
        """POST /v1/prefixes: {"action": "save" | "load" | "release", ...}."""
        request = read(PrefixRequest, payload, self.bounds)
        served = self._find(request.model)
        return Answer(await self._preparing.run(functools.partial(self._prefixes.act, request, served), call))

    async def tokenize(self, payload: object, call: Call) -> Answer:
        """POST /tokenize."""
        request = read(TokenizeRequest, payload, self.bounds)
        served = self._find(request.model)
        slow = len(request.prompt) > LONG
        return Answer(await self._soon(functools.partial(tokenized, request, served), call, slow=slow))

    async def detokenize(self, payload: object, call: Call) -> Answer:
        """POST /detokenize."""
        request = read(DetokenizeRequest, payload, self.bounds)
        served = self._find(request.model)
        slow = len(request.tokens) > LONG
        return Answer(await self._soon(functools.partial(detokenized, request, served), call, slow=slow))

    async def tokenizer_info(self, payload: object, call: Call) -> Answer:
        """GET /tokenizer_info; the payload is {"model": name} from the query, or {}."""
        return Answer(described(self._find(read(NameRequest, payload, self.bounds).model)))

    async def models(self, payload: object, call: Call) -> Answer:
        """GET /v1/models; the payload is {}."""
        return Answer(model_list(map(_entry, self.served.values())))

    async def model(self, payload: object, call: Call) -> Answer:
        """GET /v1/models/{model}; the payload is {"model": name} from the path."""
        return Answer(_entry(self._find(read(NameRequest, payload, self.bounds).model)))

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI 3.1 document of all routes."""
        return document(ROUTES, self.bounds, list(self.served))

    async def close(self) -> None:
        """Release what is held: prefixes, and the threads for long texts."""
        self._preparing.close()
        self._prefixes.close()

    def _find(self, name: str | None) -> ServedModel:
        if name is None:
            return next(iter(self.served.values()))
        if name not in self.served:
            known = ", ".join(self.served)
            message = f"the model {shortened(name)} does not exist; there are {known}"
            raise RequestError(404, message, param="model", code="model_not_found")
        return self.served[name]

    def _check_sequences(self, count: int, param: str) -> None:
        most = self.limits.max_sequences
        if count > most:
            message = (
                f"{count} texts are asked for at once, prompts times choices; at most {most} are made, ask for fewer"
            )
            raise RequestError(400, message, param=param)

    async def _soon(self, function: Callable[[], Result], call: Call, *, slow: bool) -> Result:
        """What a function returns, called at once unless it would hold up the event loop."""
        return await self._preparing.run(function, call) if slow else function()

    async def _run(self, form: Form, *, stream: bool) -> Answer | Events:
        if stream:
            return Events(streamed(form, self.observer))
        return Answer(await answered(form, self.observer))


def _bounds(models: Sequence[ServedModel], limits: Limits) -> dict[str, int]:
    """The numbers that bounds of fields stand for."""
    positions = max(each.model.spec.max_position_embeddings for each in models)
    return {
        "max_prompts": limits.max_prompts,
        "max_choices": limits.max_choices,
        "max_logprobs": limits.max_logprobs,
        "max_tokens": positions if limits.max_tokens is None else limits.max_tokens,
        "largest_id": max(each.model.spec.vocab_size for each in models) - 1,
    }


def _with_priority(request: Request, call: Call) -> Request:
    """The request with the call's priority where it has none of its own."""
    return request if request.priority is not None else dataclasses.replace(request, priority=call.priority)


def _entry(served: ServedModel) -> dict[str, Any]:
    return model_entry(served.name, served.created, served.model.spec.max_position_embeddings)


def _takes_long(request: ChatRequest | CompletionRequest) -> bool:
    """Whether there is a grammar to compile, breakers to look up in the vocabulary, or much text to look out for."""
    if request.response_format is not None or request.structured_outputs is not None:
        return True
    stops = 0 if request.stop is None else sum(map(len, request.stop))
    return stops > MOST_STOPPING or bool(request.dry_multiplier and request.dry_sequence_breakers)
