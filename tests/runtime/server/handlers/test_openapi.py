"""The OpenAPI document describes the routes, and the answers fit it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from neort.server.handlers import ROUTES, Handlers
from neort.server.protocol import RequestError, error_body

jsonschema = pytest.importorskip("jsonschema")

Ask = Callable[..., Any]
PROMPT = "Once upon a time"


def schema(handlers: Handlers, name: str) -> dict[str, Any]:
    """A component with what it refers to."""
    return {"$ref": f"#/components/schemas/{name}", "components": handlers.openapi()["components"]}


def test_schemas_are_sound_and_everything_referred_to_is_there(handlers: Handlers) -> None:
    document = handlers.openapi()
    for each in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(each)

    def references(value: object) -> list[str]:
        if isinstance(value, list):
            return [each for inner in value for each in references(inner)]
        if not isinstance(value, dict):
            return []
        found = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return found + [each for inner in value.values() for each in references(inner)]

    for reference in references(document):
        _, _, kind, name = reference.split("/")
        assert name in document["components"][kind]


def test_each_route_is_a_path_and_has_a_handler(handlers: Handlers) -> None:
    paths = handlers.openapi()["paths"]
    assert {(path, method.upper()) for path, methods in paths.items() for method in methods} == {
        (route.path, route.method) for route in ROUTES
    }
    assert all(hasattr(handlers, route.handler) for route in ROUTES if not route.app)
    names = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert len(set(names)) == len(names)


ANSWERED: list[tuple[str, str, dict[str, Any]]] = [
    ("completions", "Completion", {"prompt": PROMPT, "max_tokens": 2}),
    ("completions", "Completion", {"prompt": PROMPT, "logprobs": 1, "echo": True, "prompt_logprobs": 2, "max_tokens": 2,
                                   "return_token_ids": True, "n": 2}),
    ("completions", "CompletionChunk", {"prompt": PROMPT, "logprobs": 1, "echo": True, "max_tokens": 2, "stream": True,
                                        "return_token_ids": True, "stream_options": {"include_usage": True}}),
    ("embeddings", "EmbeddingList", {"input": ["a", "b"]}),
    ("embeddings", "EmbeddingList", {"input": "a", "encoding_format": "base64"}),
    ("tokenize", "Tokens", {"prompt": "a", "return_token_strs": True}),
    ("detokenize", "Detokenized", {"tokens": [1]}),
    ("tokenizer_info", "TokenizerInfo", {}),
    ("models", "ModelList", {}),
    ("model", "Model", {"model": "other"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("route", "name", "fields"), ANSWERED, ids=[f"{each[0]}-{i}" for i, each in enumerate(ANSWERED)]
)
def test_answers_fit_their_schemas(handlers: Handlers, ask: Ask, route: str, name: str, fields: Any) -> None:
    answer = ask(route, fields)
    validator = jsonschema.Draft202012Validator(schema(handlers, name))
    for each in answer if isinstance(answer, list) else [answer]:
        validator.validate(each)


def test_errors_fit_their_schema(handlers: Handlers) -> None:
    body = error_body(RequestError(400, "a", param="b"))
    jsonschema.Draft202012Validator(schema(handlers, "Error")).validate(body)
