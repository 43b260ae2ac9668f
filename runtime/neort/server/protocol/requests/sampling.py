"""The fields that say how new text comes about, which completions and chats share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..fields import Nested, wire
from ..kinds import AnyValue, Array, Bias, Boolean, Choice, Integer, Number, OneOf, Text
from .common import TOKEN, model_field, passed, several

__all__ = ["GeneratingFields", "JsonSchemaFormat", "ResponseFormat", "StreamOptions", "StructuredOutputs"]

SCHEMA = OneOf((Text(empty=False), AnyValue(object_only=True), Boolean()), "a JSON Schema, or one written as a string")


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """What the chunks of a stream tell beside the text."""

    include_usage: bool = wire(Boolean(), "add a last chunk with the usage, and null to all others", default=False)
    continuous_usage_stats: bool = wire(Boolean(), "add the figures so far to each chunk", default=False)


@dataclass(frozen=True, kw_only=True)
class JsonSchemaFormat:
    """The field json_schema of a response_format."""

    name: str | None = wire(Text(longest=256), "a name, which has no effect")
    description: str | None = wire(Text(), "a description, which has no effect")
    schema: Any = wire(SCHEMA, "the JSON Schema that the text fits", required=True)
    strict: bool | None = wire(Boolean(), "has no effect: the text always fits the schema")


@dataclass(frozen=True, kw_only=True)
class ResponseFormat:
    """OpenAI's way to ask for JSON."""

    type: str = wire(Choice(("text", "json_object", "json_schema")), "text, json_object or json_schema", required=True)
    json_schema: JsonSchemaFormat | None = wire(Nested(JsonSchemaFormat), "the schema, for the type json_schema")


@dataclass(frozen=True, kw_only=True)
class StructuredOutputs:
    """vLLM's way to say what the whole text looks like; one of them may be given."""

    json: Any = wire(SCHEMA, "the text is JSON that fits this JSON Schema")
    regex: str | None = wire(Text(empty=False), "the whole text fits this regular expression")
    choice: list[str] | None = wire(Array(Text(empty=False), 1, 1000), "the text is one of these")
    grammar: str | None = wire(Text(empty=False), "the text fits this grammar, in llguidance's dialect of Lark")
    json_object: bool | None = wire(Boolean(), "the text is a JSON object")

    ELSEWHERE: ClassVar = {
        "structural_tag": "use json, regex, choice or grammar",
        "whitespace_pattern": "JSON is written as Python's json.dumps does; leave it out",
        "disable_any_whitespace": "JSON is written as Python's json.dumps does; leave it out",
        "json_schema": "use json",
    }


@dataclass(frozen=True, kw_only=True)
class GeneratingFields:
    """How new text comes about. Defaults of options are the bundle's, else OpenAI's."""

    model: str | None = model_field()
    n: int = wire(Integer(1, "max_choices"), "how many texts for each prompt", default=1)
    stream: bool = wire(Boolean(), "send the text as server-sent events, one for each token", default=False)
    stream_options: StreamOptions | None = wire(Nested(StreamOptions), "what a stream tells beside the text")
    temperature: float | None = wire(
        Number(0.0, 1e6), "divides the logits; 0 takes the most probable token each time; 1 by itself"
    )
    top_p: float | None = wire(
        Number(0.0, 1.0), "sample among the fewest tokens whose probabilities reach this", option="top_p"
    )
    top_k: int | None = wire(Integer(-1, 1 << 31), "sample among so many most probable tokens; 0 and -1 are off")
    min_p: float | None = passed("min_p")
    typical_p: float | None = passed("typical_p")
    top_n_sigma: float | None = passed("top_n_sigma")
    epsilon_cutoff: float | None = passed("epsilon_cutoff")
    eta_cutoff: float | None = passed("eta_cutoff")
    xtc_probability: float | None = passed("xtc_probability")
    xtc_threshold: float | None = passed("xtc_threshold")
    repetition_penalty: float | None = passed("repetition_penalty")
    presence_penalty: float | None = passed("presence_penalty")
    frequency_penalty: float | None = passed("frequency_penalty")
    no_repeat_ngram_size: int | None = passed("no_repeat_ngram_size")
    dry_multiplier: float | None = passed("dry_multiplier")
    dry_base: float | None = passed("dry_base")
    dry_allowed_length: int | None = passed("dry_allowed_length")
    dry_penalty_last_n: int | None = passed("dry_penalty_last_n")
    dry_sequence_breakers: Any = wire(
        several(16, 100),
        "text of up to 100 characters at which repetitions end for DRY",
        option="dry_sequence_breakers",
    )
    seed: int | None = wire(
        Integer(-1, (1 << 63) - 1), "makes the texts repeatable: choice i is always the same; -1 is as good as none"
    )
    stop: Any = wire(
        several(64, 1000),
        "text of up to 1,000 characters that ends the text and is no part of it; not one that begins in the prompt",
    )
    stop_token_ids: list[int] | None = wire(Array(TOKEN, 0, 64), "ids of further tokens that end the text")
    include_stop_str_in_output: bool | None = wire(
        Boolean(), "keep what ended the text as its end", option="include_stop_str_in_output"
    )
    ignore_eos: bool = wire(Boolean(), "go on after end-of-text tokens", default=False)
    min_tokens: int | None = wire(
        Integer(0, "max_tokens"),
        "no end of the text, a stop string's neither, before so many tokens",
        option="min_new_tokens",
    )
    logit_bias: dict[int, float] | None = wire(Bias(), "is added to the logits of token ids; -100 rules out")
    allowed_token_ids: list[int] | None = wire(
        Array(TOKEN, 1, 10_000), "ids of the only tokens that may be chosen", option="allowed_token_ids"
    )
    skip_special_tokens: bool | None = wire(
        Boolean(), "leave special tokens out of the text; true by itself", option="skip_special_tokens"
    )
    prompt_logprobs: int | None = wire(
        Integer(0, "max_logprobs"),
        "log-probabilities of the prompt's tokens, with so many most probable ones; rank is null beyond these; not in "
        "streams",
        option="prompt_logprobs",
    )
    truncate_prompt_tokens: int | None = wire(
        Integer(-1, 1 << 31), "keep only so many tokens at a prompt's end; -1 keeps what fits beside max_tokens"
    )
    add_special_tokens: bool | None = wire(Boolean(), "put the tokenizer's special tokens around texts of the prompt")
    response_format: ResponseFormat | None = wire(Nested(ResponseFormat), "what the text looks like, as OpenAI has it")
    structured_outputs: StructuredOutputs | None = wire(
        Nested(StructuredOutputs), "what the text looks like, as vLLM has it"
    )
    return_token_ids: bool = wire(Boolean(), "tell the ids of the prompt's tokens and of the new ones", default=False)
    return_tokens_as_token_ids: bool = wire(
        Boolean(), "write tokens in log-probabilities as token_id:123", default=False
    )
    priority: int | None = passed("priority")
    request_id: str | None = wire(
        Text(empty=False, longest=128, pattern="[A-Za-z0-9._:-]+"), "what the answer's id is made of"
    )
