"""New text: a request's options and prompts, its sequences while they run, and the forms of answers."""

from __future__ import annotations

from .chats import ChatForm, check_chat, prepare_chat
from .completions import CompletionForm, check, prepare, with_max_tokens
from .forms import Form, Prepared, answered, streamed
from .prompts import ids_of, prompts_of, size_of
from .templates import ChatTemplate

__all__ = [
    "ChatForm",
    "ChatTemplate",
    "CompletionForm",
    "Form",
    "Prepared",
    "answered",
    "check",
    "check_chat",
    "ids_of",
    "prepare",
    "prepare_chat",
    "prompts_of",
    "size_of",
    "streamed",
    "with_max_tokens",
]
