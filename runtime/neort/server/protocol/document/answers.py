"""JSON Schemas of the answers."""

from __future__ import annotations

from ..kinds import Schema

__all__ = ["ANSWERS"]


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    properties = required | (optional or {})
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TRUTH: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
IDS = _list(COUNT)
STOP_REASON: Schema = {"anyOf": [TEXT, COUNT, {"type": "null"}]}
FINISH_REASON: Schema = {"anyOf": [{"type": "string", "enum": ["stop", "length"]}, {"type": "null"}]}
PROMPT_LOGPROBS = _or_null(
    _list(
        _or_null(
            {
                "type": "object",
                "additionalProperties": _object(
                    {"logprob": NUMBER, "rank": _or_null(COUNT), "decoded_token": TEXT},
                ),
            }
        )
    )
)
LOGPROBS = _object(
    {
        "tokens": _list(TEXT),
        "token_logprobs": _list(_or_null(NUMBER)),
        "top_logprobs": _list(_or_null({"type": "object", "additionalProperties": NUMBER})),
        "text_offset": IDS,
    }
)
TOKEN = {"token": TEXT, "logprob": NUMBER, "bytes": _list({"type": "integer", "minimum": 0, "maximum": 255})}
CHAT_LOGPROBS = _object(
    {"content": _list(_object({**TOKEN, "top_logprobs": _list(_object(TOKEN))})), "refusal": {"type": "null"}}
)
USAGE = _object(
    {"prompt_tokens": COUNT, "total_tokens": COUNT, "completion_tokens": COUNT},
    {"prompt_tokens_details": _object({"cached_tokens": COUNT})},
)
ENVELOPE = {"id": TEXT, "created": COUNT, "model": TEXT, "system_fingerprint": TEXT}
ENDS = {"finish_reason": FINISH_REASON, "stop_reason": STOP_REASON}
CHOICE = _object(
    {"index": COUNT, "text": TEXT, "logprobs": _or_null(LOGPROBS), **ENDS},
    {"prompt_logprobs": PROMPT_LOGPROBS, "prompt_token_ids": _or_null(IDS), "token_ids": IDS},
)
MESSAGE = _object({"role": TEXT, "content": TEXT, "refusal": {"type": "null"}})
CHAT_CHOICE = _object(
    {"index": COUNT, "message": MESSAGE, "logprobs": _or_null(CHAT_LOGPROBS), **ENDS}, {"token_ids": IDS}
)
CHAT_CHUNK_CHOICE = _object(
    {"index": COUNT, "delta": _object({"content": TEXT}, {"role": TEXT}), "logprobs": _or_null(CHAT_LOGPROBS), **ENDS},
    {"token_ids": IDS},
)
MODEL = _object(
    {
        "id": TEXT,
        "object": {"const": "model"},
        "created": COUNT,
        "owned_by": TEXT,
        "root": TEXT,
        "parent": {"type": "null"},
        "max_model_len": COUNT,
        "permission": {"type": "array"},
    }
)
EMBEDDING = _object(
    {
        "object": {"const": "embedding"},
        "index": COUNT,
        "embedding": {"anyOf": [_list(NUMBER), {"type": "string", "contentEncoding": "base64"}]},
    }
)

ANSWERS: dict[str, Schema] = {
    "Completion": _object(
        {"object": {"const": "text_completion"}, **ENVELOPE, "choices": _list(CHOICE), "usage": USAGE}
    ),
    "CompletionChunk": _object(
        {"object": {"const": "text_completion"}, **ENVELOPE, "choices": _list(CHOICE)}, {"usage": _or_null(USAGE)}
    ),
    "ChatCompletion": _object(
        {
            "object": {"const": "chat.completion"},
            **ENVELOPE,
            "choices": _list(CHAT_CHOICE),
            "usage": USAGE,
            "prompt_logprobs": PROMPT_LOGPROBS,
        },
        {"prompt_token_ids": IDS},
    ),
    "ChatCompletionChunk": _object(
        {"object": {"const": "chat.completion.chunk"}, **ENVELOPE, "choices": _list(CHAT_CHUNK_CHOICE)},
        {"usage": _or_null(USAGE)},
    ),
    "EmbeddingList": _object(
        {
            "id": TEXT,
            "object": {"const": "list"},
            "created": COUNT,
            "model": TEXT,
            "data": _list(EMBEDDING),
            "usage": USAGE,
        }
    ),
    "Model": MODEL,
    "ModelList": _object({"object": {"const": "list"}, "data": _list(_ref("Model"))}),
    "Tokens": _object(
        {"count": COUNT, "max_model_len": COUNT, "tokens": IDS, "token_strs": _or_null(_list(TEXT))},
    ),
    "Detokenized": _object({"prompt": TEXT}),
    "TokenizerInfo": _object(
        {
            "model": TEXT,
            "tokenizer_class": TEXT,
            "vocab_size": COUNT,
            "max_model_len": COUNT,
            "bos_token": _or_null(TEXT),
            "eos_token": _or_null(TEXT),
            "eos_token_ids": IDS,
            "eos_tokens": _list(TEXT),
            "added_tokens": {"type": "object", "additionalProperties": COUNT},
            "special_tokens": {"type": "object", "additionalProperties": COUNT},
            "chat_template": _or_null(TEXT),
        }
    ),
    "Prefix": _object(
        {
            "object": {"const": "prefix"},
            "action": TEXT,
            "filename": TEXT,
            "model": TEXT,
            "tokens": COUNT,
            "held_bytes": COUNT,
            "held": TRUTH,
        }
    ),
    "Health": {"type": "object"},
    "Version": {"type": "object", "properties": {"version": TEXT}, "required": ["version"]},
    "Document": {"type": "object"},
    "Error": _object(
        {"error": _object({"message": TEXT, "type": TEXT, "param": _or_null(TEXT), "code": _or_null(TEXT)})}
    ),
}
