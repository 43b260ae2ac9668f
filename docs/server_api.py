"""Writes docs/server-api.md from the server's routes and the fields of its requests: python docs/server_api.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neort.server.handlers import ROUTES, Limits
from neort.server.protocol.fields import Unused, fields_of, schema_of
from neort.server.protocol.requests import REQUESTS, ChatMessage, StreamOptions
from neort.server.protocol.requests.sampling import (
    GeneratingFields,
    JsonSchemaFormat,
    ResponseFormat,
    StructuredOutputs,
)

PAGE = Path(__file__).with_name("server-api.md")
LIMITS = Limits()
BOUNDS = {"max_prompts": LIMITS.max_prompts, "max_choices": LIMITS.max_choices, "max_logprobs": LIMITS.max_logprobs}
HEAD = """# The server's interface

What `neort serve` answers: the routes, and every field of every request. The names are OpenAI's, and vLLM's where
OpenAI has none, so clients of either work by a change of the address. `GET /openapi.json` says the same for programs:
it is made of the tables that check the requests.

## Rules

- `null` is as good as leaving a field out. `2.0` is an integer, `true` is none, `NaN` is no JSON.
- A name that a request does not have is refused with status 400 and the nearest name that it has. Names that OpenAI's
  or vLLM's clients send are either ignored or refused, each for the reason that its table gives.
- Unless a request or the bundle's `generation_config.json` says else, tokens are sampled at temperature 1.0 from the
  whole vocabulary. Temperature 0 takes the most probable token each time, whatever else is said of sampling.
- With a `seed`, choice i of a prompt is `Model.generate(prompt, do_sample=True, temperature=1.0, top_k=0, seed=seed,
  num_return_sequences=n)[i]`, bit for bit, whatever runs beside it. Stop strings are those of `stop_in_new_text=True`.
- The choices of several prompts stand in their order: choice i of prompt p has the index p * n + i.
- A stream has one event for each token, also where its text is not certain yet, and none before the first token. An
  event's text is what became certain; joined texts are the text of the whole answer. `finish_reason`, `stop_reason` and
  the last text come with the last token. An error after the first event is an event of its own.
- Special tokens written in a prompt's text become their ids, as with `Model.generate`; `/tokenize` shows it.
- The ids of `logit_bias` that a model does not have are ignored.

## Routes

"""
SECTIONS = {
    "CompletionRequest": "POST /v1/completions",
    "ChatCompletionRequest": "POST /v1/chat/completions",
    "EmbeddingRequest": "POST /v1/embeddings",
    "PrefixRequest": "POST /v1/prefixes",
    "TokenizeRequest": "POST /tokenize",
    "DetokenizeRequest": "POST /detokenize",
}
NOTES = {
    "CompletionRequest": """Beside the following it takes the fields of [new text](#new-text).

`logprobs` are the model's own, before any option changes them: `tokens` are the tokens' texts (`bytes:\\xe2\\x80`
where a token is no whole characters, as OpenAI writes it), `top_logprobs` holds the most probable ones and the token
itself, `text_offset` says where in the text a token begins. With `echo` they begin with the prompt's, of which the
first has none; `max_tokens: 0` with `echo` tells the prompt's alone. Tokens of a stop string that ended the text are
among them. `stop_reason` is the stop string, or the one of `stop_token_ids`, that ended a text, else null.""",
    "ChatCompletionRequest": """A model takes chats only if a chat template was given for it where the server was
  started: these models continue texts, and a template makes one text of messages. It is rendered by Jinja's sandbox
  as transformers renders it, and puts special tokens itself. Without one the answer is status 404. Beside the
  following it takes the fields of [new text](#new-text).""",
    "EmbeddingRequest": """Vectors are the means of the last layer's hidden states, one long: `Model.embed(text,
normalize=True)`.""",
    "PrefixRequest": """Keys and values of a prompt's beginning, in files of a folder that was named where the server
  was started. Prompts that begin with a loaded prefix start from it, whoever asks. A file is as private as its
  prompt.""",
    "TokenizeRequest": "As vLLM has it: `count`, `max_model_len`, `tokens`, and `token_strs` if asked for.",
    "DetokenizeRequest": "The text of token ids, special tokens' included, as `prompt`.",
}
NESTED = {
    "stream_options": StreamOptions,
    "response_format": ResponseFormat,
    "response_format.json_schema": JsonSchemaFormat,
    "structured_outputs": StructuredOutputs,
    "messages[i]": ChatMessage,
}
ERRORS = """
## Errors

Each error is OpenAI's: `{"error": {"message", "type", "param", "code"}}`, of one sentence that names the value, the
limit and the remedy, cut to 1,000 characters, so that a large request is not sent back.

| status | what happened |
|---|---|
| 400 | a request that is not sound, or cannot be served; `param` names the field |
| 401 | no key, or a wrong one |
| 403 | the request calls the server by a name that it does not have; `--allowed-host` gives it one |
| 404 | no such model (`model_not_found`), file, or chat template (`no_chat_template`) |
| 405 | the path has another method; `Allow` names it |
| 408 | the head or the body of the request took too long to come |
| 413, 415 | a body that is too large, or compressed, or does not say that it is `application/json` |
| 422 | options that leave no token to choose in some place, a grammar and `allowed_token_ids` say |
| 429 | as many requests wait as may; `Retry-After` says when to try again |
| 431 | the head of the request has too many fields |
| 500 | the server failed; its log says why |
| 501 | a part of neort is not installed: grammars need `neort[grammar]` |
| 503 | the server is about to end, or the system has no memory |
| 504 | the request took longer than the server's limit |
| 507 | the disk is full |
"""


PARTS = """
## What it is made of

`pip install "neort[serve]"`, or `pip install ".[serve]"` in neort's folder, brings what a server needs, 2.6 MB beside
the rest. Nothing of it is imported by `import neort`:

| library | for | kept by | brings along |
|---|---|---|---|
| starlette | routes and requests | Marcelo Trylesinski, of the organization Kludex | anyio, idna, typing_extensions |
| uvicorn | HTTP | the same | click, h11 |
| prometheus-client | `/metrics` | the Prometheus project | nothing |
| jinja2 | chat templates | Pallets | MarkupSafe |

`neort.server.protocol` and `neort.server.handlers` need none of them, but for jinja2 where there is a chat template: a
program may put the handlers behind another web framework. A handler takes decoded JSON and a `Call`, and returns an
`Answer` (a body) or `Events` (chunks, of which each is one server-sent event).
"""


def page() -> str:
    """The whole page."""
    routes = "".join(f"| `{route.method} {route.path}` | {route.summary} |\n" for route in ROUTES)
    parts = [HEAD, "| route | |\n|---|---|\n", routes, "\n## New text\n\n", "What completions and chats share.\n\n"]
    parts += [_table(GeneratingFields), _nested({name: NESTED[name] for name in list(NESTED)[:4]})]
    for name, title in SECTIONS.items():
        parts += [f"\n## {title}\n\n", NOTES[name], "\n\n", _table(REQUESTS[name], without=GeneratingFields)]
        if name == "ChatCompletionRequest":
            parts.append(_nested({"messages[i]": ChatMessage}))
        parts.append(_unused(REQUESTS[name]))
    return "".join([*parts, ERRORS, PARTS])


def _table(request: type[Any], without: type[Any] | None = None) -> str:
    """The fields of a request, but for those that another has."""
    shared = set(fields_of(without)) if without is not None and issubclass(request, without) else set()
    schema = schema_of(request, BOUNDS)["properties"]
    rows = []
    for name, field in fields_of(request).items():
        if name not in shared:
            needed = " (needed)" if field.required else ""
            rows.append(f"| `{name}`{needed} | {_values(schema[name])} | {_escaped(field.help)} |\n")
    return "".join(["| field | values | what it does |\n|---|---|---|\n", *rows])


def _nested(requests: dict[str, type[Any]]) -> str:
    return "".join(f"\nFields of `{name}`:\n\n{_table(request)}" for name, request in requests.items())


def _unused(request: type[Any]) -> str:
    """The fields that do nothing, with the reasons."""
    unused: dict[str, Unused] = getattr(request, "UNUSED", {})
    if not unused:
        return ""
    rows = []
    for name, each in unused.items():
        but = "".join(f", but for `{json.dumps(value)}`" for value in each.values or ())
        rows.append(
            f"| `{name}` | {'ignored' if each.values is None else 'refused' + but} | {_escaped(each.reason)} |\n"
        )
    return "".join(["\n| known elsewhere | | why |\n|---|---|---|\n", *rows])


def _values(schema: dict[str, Any]) -> str:
    """The values of a JSON Schema in a few words; null, which each field takes, left out."""
    if "anyOf" in schema:
        return " or ".join(_values(each) for each in schema["anyOf"] if each != {"type": "null"})
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind in ("integer", "number"):
        least, most = schema.get("minimum"), schema.get("maximum")
        if least is None or least < -1e9:
            return kind
        return f"{kind}, at least {least:g}" if most is None or most > 1e9 else f"{kind}, {least:g} to {most:g}"
    if kind == "array":
        most = f" of up to {schema['maxItems']}" if "maxItems" in schema else ""
        return f"list{most} ({_values(schema['items'])})"
    return str(kind)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
