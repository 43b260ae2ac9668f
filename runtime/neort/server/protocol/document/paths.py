"""The paths of the OpenAPI document, and the document as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .... import __version__
from ..fields import schema_of
from ..kinds import Bounds, Schema
from ..requests import REQUESTS
from ..routes import Route
from .answers import ANSWERS

__all__ = ["document"]

ERRORS = {
    400: "The request is not sound, or cannot be served",
    401: "The key is missing or wrong",
    403: "The request calls the server by a name that it does not have",
    404: "There is no such model or file",
    405: "The path has another method",
    408: "The request did not arrive in time",
    413: "The body is too large",
    415: "The body is compressed, or no JSON",
    422: "The options leave no token to choose",
    429: "Too many requests wait; try again later",
    431: "The head is too large",
    499: "The client went away",
    500: "The server failed",
    501: "A part of neort is not installed",
    503: "The server does not take requests now",
    504: "The request took too long",
    507: "There is no room on the disk",
}
OF_GET = (400, 401, 403, 404, 405, 408, 429, 431, 500, 503)
OPEN = (400, 403, 405, 408, 429, 431, 500, 503)
CHUNKS = {"Completion": "CompletionChunk", "ChatCompletion": "ChatCompletionChunk"}


def document(routes: Sequence[Route], bounds: Bounds, models: Sequence[str]) -> dict[str, Any]:
    """The OpenAPI 3.1 document; ``bounds`` are those of the requests' fields, ``models`` the names there are."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, models)
    schemas: dict[str, Schema] = {name: schema_of(request, bounds) for name, request in REQUESTS.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "neort",
            "version": __version__,
            "description": "GPT-Neo and GPT-2 on CPUs, by OpenAI's interface.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas | ANSWERS,
            "responses": {f"Error{status}": _error(status) for status in ERRORS},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, models: Sequence[str]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler,
        "summary": route.summary,
        "security": [] if route.open else [{"key": []}, {}],
        "responses": {"200": _success(route)} | {str(status): _error_ref(status) for status in _errors(route)},
    }
    parameters = [_path_parameter(name, models) for name in re.findall(r"{(\w+)}", route.path)]
    if route.handler == "tokenizer_info":
        parameters.append({"name": "model", "in": "query", "required": False, "schema": _name(models)})
    if parameters:
        operation["parameters"] = parameters
    if route.request is not None:
        content = {"application/json": {"schema": _ref(route.request)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _success(route: Route) -> dict[str, Any]:
    if route.response is None:
        return {"description": route.summary, "content": {route.media_type: {"schema": {"type": "string"}}}}
    content: dict[str, Any] = {route.media_type: {"schema": _ref(route.response)}}
    if route.streams:
        events = f"Server-sent events: {CHUNKS[route.response]} each, an Error if one comes up later, at last [DONE]."
        content["text/event-stream"] = {"schema": {"type": "string", "description": events}}
    return {"description": route.summary, "content": content}


def _errors(route: Route) -> Sequence[int]:
    if route.open:
        return OPEN
    return OF_GET if route.request is None else list(ERRORS)


def _error(status: int) -> dict[str, Any]:
    return {"description": ERRORS[status], "content": {"application/json": {"schema": _ref("Error")}}}


def _error_ref(status: int) -> Schema:
    return {"$ref": f"#/components/responses/Error{status}"}


def _path_parameter(name: str, models: Sequence[str]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _name(models)}


def _name(models: Sequence[str]) -> Schema:
    return {"type": "string", "enum": list(models)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
