"""POST /v1/chat/completions, for models with a chat template."""

from __future__ import annotations

from typing import Any

import pytest

import neort
from handler_calls import answer, run
from neort.server.handlers import Handlers, ServedModel
from neort.server.protocol import RequestError

pytest.importorskip("jinja2")

TEMPLATE = """
{%- for message in messages %}
{%- if message.role == "tool" %}{{ raise_exception("no tools") }}{% endif %}
{{- message.role }}: {{ message.content }}{{ eos_token }}
{% endfor %}
{%- if add_generation_prompt %}assistant:{% endif %}"""
MESSAGES = [
    {"role": "user", "content": "Hello <b>"},
    {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
]
RENDERED = "user: Hello <b><|endoftext|>\nassistant: Hi<|endoftext|>\nassistant:"


def handlers(model: neort.Model, template: str = TEMPLATE) -> Handlers:
    return Handlers([ServedModel("mini", model, 1, template)])


def ask(model: neort.Model, fields: dict[str, Any], template: str = TEMPLATE) -> Any:
    return run(answer(handlers(model, template), "chat_completions", {"messages": MESSAGES, **fields}))


def test_the_answer_goes_on_after_the_rendered_messages(model: neort.Model) -> None:
    body = ask(model, {"max_tokens": 8, "seed": 4, "n": 2, "return_token_ids": True})
    expected = model.generate(
        RENDERED, do_sample=True, temperature=1.0, top_k=0, seed=4, max_new_tokens=8, num_return_sequences=2
    )
    assert body["object"] == "chat.completion"
    assert body["prompt_token_ids"] == model.tokenizer.encode(RENDERED)
    assert [choice["message"]["content"] for choice in body["choices"]] == [each.text for each in expected]
    assert {choice["message"]["role"] for choice in body["choices"]} == {"assistant"}


def test_streamed_deltas_join_to_the_answer_with_the_role_first(model: neort.Model) -> None:
    fields = {"max_completion_tokens": 6, "seed": 4, "logprobs": True, "top_logprobs": 2}
    (choice,) = ask(model, fields)["choices"]
    chunks = [chunk["choices"][0] for chunk in ask(model, {**fields, "stream": True})]
    assert [chunk["delta"].get("role") for chunk in chunks] == ["assistant"] + [None] * (len(chunks) - 1)
    assert "".join(chunk["delta"]["content"] for chunk in chunks) == choice["message"]["content"]
    assert [each for chunk in chunks for each in chunk["logprobs"]["content"]] == choice["logprobs"]["content"]
    assert chunks[-1]["finish_reason"] == choice["finish_reason"]


def test_logprobs_have_chats_form(model: neort.Model) -> None:
    (choice,) = ask(model, {"max_tokens": 2, "temperature": 0, "logprobs": True, "top_logprobs": 1})["choices"]
    for token in choice["logprobs"]["content"]:
        assert bytes(token["bytes"]).decode() == token["token"]
        assert token["top_logprobs"] == [{name: token[name] for name in ("token", "logprob", "bytes")}]


def test_an_answer_may_fill_the_context(model: neort.Model) -> None:
    body = ask(model, {"ignore_eos": True, "messages": [{"role": "user", "content": "x " * 240}]})
    positions = model.spec.max_position_embeddings
    assert positions <= body["usage"]["total_tokens"] <= positions + 1
    assert body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type", "text"),
        ({"messages": [{"role": "tool", "content": ""}]}, "messages", "no tools"),
        ({"tools": [{}]}, "tools", "call no tools"),
        ({"chat_template": "x"}, "chat_template", "operator"),
        ({"top_logprobs": 3}, "top_logprobs", "logprobs=true"),
        ({"prompt": "x"}, "prompt", "use messages"),
    ],
)
def test_what_makes_no_sense_is_refused(model: neort.Model, fields: Any, param: str, told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        ask(model, fields)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_template_runs_in_a_sandbox(model: neort.Model) -> None:
    for template in ("{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ 1 // 0 }}", "{{ nothing.at.all }}"):
        with pytest.raises(RequestError, match="cannot be rendered"):
            ask(model, {}, template)


def test_a_template_that_cannot_be_read_is_refused_at_once(model: neort.Model) -> None:
    with pytest.raises(neort.ConfigError, match="cannot be read"):
        handlers(model, "{% for %}")


def test_without_a_template_it_is_said_how_to_give_one(refused: Any) -> None:
    error = refused("chat_completions", {"messages": MESSAGES})
    assert (error.status, error.code) == (404, "no_chat_template")
    assert "give a template where the server is started" in error.message
