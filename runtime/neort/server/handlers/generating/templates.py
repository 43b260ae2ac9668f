"""A chat's messages as one text, by a model's template, rendered as transformers renders it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ....errors import ConfigError, MissingExtraError
from ....tokenizer import Tokenizer
from ....wording import shortened
from ...protocol import RequestError
from ...protocol.requests import ChatRequest

__all__ = ["ChatTemplate"]

LONGEST_RENDERED = 4_000_000  # characters


class ChatTemplate:
    """A compiled template. It is program text, run in Jinja's sandbox: it comes from who runs the server."""

    def __init__(self, source: str, tokenizer: Tokenizer, eos_token_ids: Sequence[int]) -> None:
        """Raises ConfigError for a template that cannot be read, MissingExtraError without jinja2."""
        try:
            import jinja2
            from jinja2.ext import loopcontrols
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError:
            raise MissingExtraError(
                'a chat template needs jinja2, which is missing: pip install "neort[serve]"'
            ) from None
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ConfigError(
                f"the chat template {shortened(source)} cannot be read ({error}); give one that transformers reads"
            ) from None
        self._tokens = _special_tokens(tokenizer, eos_token_ids)

    def render(self, request: ChatRequest) -> str:
        """The text of a chat. Raises RequestError where the template refuses the messages."""
        messages = [
            {"role": each.role, "content": each.text} | ({} if each.name is None else {"name": each.name})
            for each in request.messages
        ]
        variables: dict[str, Any] = {
            **self._tokens,
            **(request.chat_template_kwargs or {}),
            "messages": messages,
            "add_generation_prompt": request.add_generation_prompt,
            "tools": None,
            "documents": None,
        }
        try:
            text = str(self._template.render(variables))
        except _RefusedError as error:
            raise RequestError(400, f"the chat template refuses these messages: {error}", param="messages") from None
        except Exception as error:  # whatever a template may run into with these messages
            reason = f"{type(error).__name__}: {shortened(str(error))}"
            raise RequestError(
                400, f"the chat template cannot be rendered with these messages ({reason})", param="messages"
            ) from None
        if len(text) > LONGEST_RENDERED:
            raise RequestError(
                400,
                f"the chat's text has {len(text)} characters, at most {LONGEST_RENDERED} are read",
                param="messages",
            )
        return text


class _RefusedError(Exception):
    """A template's own complaint."""


def _special_tokens(tokenizer: Tokenizer, eos_token_ids: Sequence[int]) -> Mapping[str, str]:
    """The variables bos_token and eos_token; GPT's models have one token for both."""
    eos = tokenizer.all_bytes(eos_token_ids[0]).decode("utf-8", "replace") if eos_token_ids else ""
    prefix = tokenizer.prefix_ids
    bos = tokenizer.all_bytes(prefix[0]).decode("utf-8", "replace") if prefix else eos
    return {"bos_token": bos, "eos_token": eos}


def _raise_exception(message: object) -> NoReturn:
    raise _RefusedError(str(message))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
