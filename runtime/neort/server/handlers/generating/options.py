"""What a request asks for as options of the engine: one `GenerationConfig`."""

from __future__ import annotations

from typing import Any

from ....generation import GenerationConfig
from ....generation.config import SAMPLING
from ...protocol import RequestError
from ...protocol.fields import fields_of
from ...protocol.requests import GeneratingFields

__all__ = ["check_stream", "is_greedy", "options_of", "stop_ids"]

COLDEST = 1e-6  # the least temperature that differs from greedy decoding


def check_stream(request: GeneratingFields) -> None:
    """Raise RequestError for what a stream does not tell, and for what only a stream has."""
    if request.stream and request.prompt_logprobs is not None:
        message = "prompt_logprobs are not told in a stream; completions have echo with logprobs, or set stream=false"
        raise RequestError(400, message, param="prompt_logprobs")
    if request.stream_options is not None and not request.stream:
        message = "stream_options are given without stream; set stream=true, or leave them out"
        raise RequestError(400, message, param="stream_options")


def options_of(
    request: GeneratingFields,
    base: GenerationConfig,
    *,
    max_tokens: int | None,
    default_max_tokens: int,
    logprobs: int | None,
    count: int,
) -> GenerationConfig:
    """The options of a request's sequences, on top of the bundle's own, ``base``.

    ``max_tokens`` that are not given become as many of ``default_max_tokens`` as the context has room for. ``count`` is
    the number of sequences for each prompt. Raises ConfigError for options that contradict each other, RequestError
    where that can be said by the names of the request.
    """
    chosen = {
        field.option: getattr(request, name)
        for name, field in fields_of(type(request)).items()
        if field.option is not None and getattr(request, name) is not None
    }
    chosen |= _sampling(request, base) | _ends(request, base) | _structure(request)
    if max_tokens is None:
        chosen["overflow"] = "stop"
    most = default_max_tokens if max_tokens is None else max(max_tokens, 1)
    if request.min_tokens is not None and request.min_tokens > most:
        message = f"min_tokens is {request.min_tokens} and max_tokens {most}; lower the first or raise the second"
        raise RequestError(400, message, param="min_tokens")
    if is_greedy(request, base):
        chosen = {name: value for name, value in chosen.items() if name not in SAMPLING}
        if count > 1:
            told = f"{count} texts for a prompt are asked for at temperature 0, which gives the same one each time"
            raise RequestError(400, f"{told}; use n=1, or a temperature above 0", param="n")
    if base.num_beams > 1:
        chosen["num_beams"] = 1  # a bundle's wish for beams is for Model.generate
    chosen |= {"max_new_tokens": most, "logprobs": logprobs, "num_return_sequences": count}
    return base.replace(**chosen)


def is_greedy(request: GeneratingFields, base: GenerationConfig) -> bool:
    """Whether the most probable token is taken each time: at temperature 0, or as the bundle says."""
    if request.temperature is not None:
        return request.temperature < COLDEST
    return "do_sample" in base.given and not base.do_sample


def stop_ids(request: GeneratingFields) -> list[int]:
    """The further tokens that end a text."""
    return list(dict.fromkeys(request.stop_token_ids or ()))


def _sampling(request: GeneratingFields, base: GenerationConfig) -> dict[str, Any]:
    if is_greedy(request, base):
        return {"do_sample": False}
    top_k = request.top_k
    if top_k is None:
        top_k = (base.top_k or 0) if "top_k" in base.given else 0
    temperature = request.temperature
    if temperature is None:
        temperature = 1.0 if base.temperature is None else base.temperature
    return {"do_sample": True, "temperature": temperature, "top_k": max(top_k, 0)}


def _ends(request: GeneratingFields, base: GenerationConfig) -> dict[str, Any]:
    """What ends a text, what makes it repeatable, and biases."""
    ends: dict[str, Any] = {"stop_in_new_text": True}
    further = stop_ids(request)
    if further:
        ends["eos_token_id"] = further if request.ignore_eos else [*base.eos_token_ids, *further]
        ends["ignore_eos"] = False
    elif request.ignore_eos:
        ends["ignore_eos"] = True
    if request.stop:
        ends["stop_strings"] = request.stop
    if request.seed is not None and request.seed >= 0:
        ends["seed"] = request.seed
    if request.logit_bias:
        ends["logit_bias"] = request.logit_bias
    return ends


def _structure(request: GeneratingFields) -> dict[str, Any]:
    """The option that says what the whole text looks like."""
    wanted: dict[str, Any] = {}
    if (form := request.response_format) is not None and form.type != "text":
        if form.type == "json_schema" and form.json_schema is None:
            raise RequestError(
                400, "response_format has the type json_schema and no field json_schema", param="response_format"
            )
        wanted["json_schema"] = {"type": "object"} if form.json_schema is None else form.json_schema.schema
    if (outputs := request.structured_outputs) is not None:
        named = {
            "json_schema": {"type": "object"} if outputs.json_object and outputs.json is None else outputs.json,
            "regex": outputs.regex,
            "choice": outputs.choice,
            "grammar": outputs.grammar,
        }
        given = {name: value for name, value in named.items() if value is not None}
        if len(given) + len(wanted) != 1:
            raise RequestError(
                400,
                f"{len(given) + len(wanted)} grammars are given, and a text follows one: give one of json, regex, "
                "choice and grammar in structured_outputs, or a response_format",
                param="structured_outputs",
            )
        wanted |= given
    return wanted
