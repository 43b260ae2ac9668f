"""POST /v1/completions answers what `Model.generate` gives, in OpenAI's form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import neort

PROMPT = "Once upon a time"
CLEAR = "The old man"  # ", and" goes on by far more than rounding, on whatever onnxruntime
IDS = [5, 6, 7]

Ask = Callable[..., Any]


def generated(model: neort.Model, prompt: Any, **options: Any) -> list[neort.Completion]:
    """What the same request gives in process, by OpenAI's defaults."""
    sampling: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0}
    if options.get("do_sample") is False:
        sampling = {}
    completions: list[neort.Completion] = model.generate(prompt, **{"num_return_sequences": 1, **sampling, **options})
    return completions


def texts(body: dict[str, Any]) -> list[str]:
    assert [choice["index"] for choice in body["choices"]] == list(range(len(body["choices"])))
    return [choice["text"] for choice in body["choices"]]


def test_choices_are_the_sequences_of_generate(model: neort.Model, ask: Ask) -> None:
    body = ask("completions", {"prompt": PROMPT, "n": 3, "seed": 7, "max_tokens": 8})
    expected = generated(model, PROMPT, num_return_sequences=3, seed=7, max_new_tokens=8)
    assert texts(body) == [each.text for each in expected]
    assert [choice["finish_reason"] for choice in body["choices"]] == [each.finish_reason for each in expected]
    new_tokens = sum(len(each.token_ids) for each in expected)
    usage = {name: body["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    assert usage == {"prompt_tokens": 5, "completion_tokens": new_tokens, "total_tokens": 5 + new_tokens}


def test_sixteen_tokens_are_the_default(ask: Ask) -> None:
    for fields, count in (
        ({}, 16),
        ({"max_completion_tokens": 3}, 3),
        ({"max_tokens": 2, "max_completion_tokens": 3}, 2),
    ):
        body = ask("completions", {"prompt": PROMPT, "ignore_eos": True, **fields})
        assert body["usage"]["completion_tokens"] == count


def test_the_default_number_of_tokens_gives_way_to_the_context(model: neort.Model, ask: Ask) -> None:
    positions = model.spec.max_position_embeddings
    body = ask("completions", {"prompt": [5] * (positions - 2), "ignore_eos": True})
    assert 2 <= body["usage"]["completion_tokens"] <= 3
    assert body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("prompt", [PROMPT, [PROMPT, "The"], IDS, [IDS, [9]], [PROMPT, IDS]], ids=repr)
def test_prompts_of_every_form_are_answered_prompt_by_prompt(model: neort.Model, ask: Ask, prompt: Any) -> None:
    body = ask("completions", {"prompt": prompt, "temperature": 0, "max_tokens": 4})
    prompts = prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]
    assert texts(body) == [generated(model, each, do_sample=False, max_new_tokens=4)[0].text for each in prompts]


def test_the_choices_of_several_prompts_stand_side_by_side(model: neort.Model, ask: Ask) -> None:
    body = ask("completions", {"prompt": [PROMPT, IDS], "n": 2, "seed": 3, "max_tokens": 4})
    expected = [
        each for p in (PROMPT, IDS) for each in generated(model, p, num_return_sequences=2, seed=3, max_new_tokens=4)
    ]
    assert texts(body) == [each.text for each in expected]


OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"temperature": 0.7, "top_p": 0.9}, {"temperature": 0.7, "top_p": 0.9}),
    ({"top_k": 5}, {"top_k": 5}),
    ({"top_k": -1, "min_p": 0.05}, {"min_p": 0.05}),
    ({"repetition_penalty": 1.3, "typical_p": 0.8}, {"repetition_penalty": 1.3, "typical_p": 0.8}),
    ({"presence_penalty": 1, "frequency_penalty": 0.5}, {"presence_penalty": 1.0, "frequency_penalty": 0.5}),
    ({"logit_bias": {"12": -100, "279": 5.5}}, {"logit_bias": {12: -100.0, 279: 5.5}}),
    ({"allowed_token_ids": [11, 12, 13]}, {"allowed_token_ids": [11, 12, 13]}),
    ({"stop": [" the", "."]}, {"stop_strings": [" the", "."]}),
    (
        {"stop": " the", "include_stop_str_in_output": True},
        {"stop_strings": " the", "include_stop_str_in_output": True},
    ),
    ({"stop_token_ids": [12, 279]}, {"eos_token_id": [0, 12, 279]}),
    ({"ignore_eos": True, "logit_bias": {"0": 100}}, {"ignore_eos": True, "logit_bias": {0: 100.0}}),
    ({"min_tokens": 6, "logit_bias": {"0": 100}}, {"min_new_tokens": 6, "logit_bias": {0: 100.0}}),
    ({"no_repeat_ngram_size": 2.0}, {"no_repeat_ngram_size": 2}),
    ({"seed": None, "top_p": None, "stop": None, "user": "me", "allowed_token_ids": [12]}, {"allowed_token_ids": [12]}),
]


@pytest.mark.parametrize(("fields", "options"), OPTIONS, ids=[" ".join(fields) for fields, _ in OPTIONS])
def test_options_are_those_of_generate(model: neort.Model, ask: Ask, fields: Any, options: Any) -> None:
    body = ask("completions", {"prompt": PROMPT, "max_tokens": 12, "seed": 11, **fields})
    (expected,) = generated(model, PROMPT, **{"max_new_tokens": 12, "seed": 11, **options})
    assert texts(body) == [expected.text]
    assert body["choices"][0]["finish_reason"] == expected.finish_reason


def test_temperature_0_is_greedy_whatever_else_is_said_of_sampling(model: neort.Model, ask: Ask) -> None:
    body = ask("completions", {"prompt": PROMPT, "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "seed": 1})
    assert texts(body) == [generated(model, PROMPT, do_sample=False, max_new_tokens=16)[0].text]


def test_stop_strings_stand_in_the_new_text_and_end_it_after_min_tokens(ask: Ask) -> None:
    greedy = {"prompt": CLEAR, "temperature": 0, "max_tokens": 8}
    assert texts(ask("completions", {**greedy, "stop": [CLEAR[-4:] + ",", " and"]})) == [","]
    assert texts(ask("completions", {**greedy, "stop": [",", " an"], "min_tokens": 1})) == [","]


def test_stop_reason_is_the_stop_string_or_the_token_of_the_request(ask: Ask) -> None:
    greedy = {"prompt": CLEAR, "temperature": 0, "max_tokens": 12}
    by_string = ask("completions", {**greedy, "stop": [" and"]})["choices"][0]
    assert (by_string["text"], by_string["finish_reason"], by_string["stop_reason"]) == (",", "stop", " and")
    by_token = ask("completions", {**greedy, "stop_token_ids": [279]})["choices"][0]
    assert (by_token["text"], by_token["finish_reason"], by_token["stop_reason"]) == (",", "stop", 279)
    kept = ask("completions", {**greedy, "stop_token_ids": [279], "include_stop_str_in_output": True})["choices"][0]
    assert kept["text"] == ", and"
    by_end = ask("completions", {**greedy, "logit_bias": {"0": 100}})["choices"][0]
    assert (by_end["text"], by_end["finish_reason"], by_end["stop_reason"]) == ("", "stop", None)
    by_length = ask("completions", greedy)["choices"][0]
    assert (by_length["finish_reason"], by_length["stop_reason"]) == ("length", None)


def test_special_tokens_are_told_where_they_are_asked_for(ask: Ask) -> None:
    ended = {"prompt": PROMPT, "max_tokens": 3, "allowed_token_ids": [0], "ignore_eos": True}
    assert texts(ask("completions", ended)) == [""]
    assert texts(ask("completions", {**ended, "skip_special_tokens": False})) == ["<|endoftext|>" * 3]


def test_logprobs_are_those_of_generate_with_offsets_into_the_text(model: neort.Model, ask: Ask) -> None:
    fields: dict[str, Any] = {
        "prompt": "caf\u00e9 \u2013 na\u00efve",
        "temperature": 0,
        "max_tokens": 6,
        "logprobs": 2,
        "echo": True,
    }
    choice = ask("completions", fields)["choices"][0]
    (expected,) = generated(model, fields["prompt"], do_sample=False, max_new_tokens=6, logprobs=2, prompt_logprobs=2)
    assert expected.logprobs is not None
    assert expected.prompt_logprobs is not None
    known = [*expected.prompt_logprobs, *expected.logprobs]
    told = choice["logprobs"]
    assert choice["text"] == fields["prompt"] + expected.text
    assert told["token_logprobs"] == [None if each is None else each.logprob for each in known]
    assert told["top_logprobs"][0] is None
    assert [max(top.values()) for top in told["top_logprobs"][1:]] == [each.top[0][1] for each in known if each]
    for token, offset in zip(told["tokens"], told["text_offset"], strict=True):
        assert token.startswith("bytes:") or choice["text"][offset:].startswith(token)


def test_max_tokens_0_with_echo_gives_the_prompt_alone(model: neort.Model, ask: Ask) -> None:
    body = ask(
        "completions",
        {"prompt": [PROMPT, [5] * model.spec.max_position_embeddings], "max_tokens": 0, "echo": True, "logprobs": 0},
    )
    assert texts(body)[0] == PROMPT
    assert body["usage"]["completion_tokens"] == 0
    assert len(body["choices"][0]["logprobs"]["tokens"]) == 5
    assert len(body["choices"][1]["logprobs"]["tokens"]) == model.spec.max_position_embeddings
    assert [choice["finish_reason"] for choice in body["choices"]] == ["length", "length"]


def test_best_of_answers_with_the_most_probable_texts(model: neort.Model, ask: Ask) -> None:
    body = ask("completions", {"prompt": PROMPT, "n": 2, "best_of": 4, "seed": 5, "max_tokens": 6})
    made = generated(model, PROMPT, num_return_sequences=4, seed=5, max_new_tokens=6, logprobs=0)
    means = {each.text: sum(t.logprob for t in each.logprobs or ()) / len(each.token_ids) for each in made}
    assert texts(body) == sorted(means, key=lambda text: -means[text])[:2]
    assert body["usage"]["completion_tokens"] == sum(len(each.token_ids) for each in made)


def test_prompt_logprobs_are_told_as_vllm_tells_them(model: neort.Model, ask: Ask) -> None:
    choice = ask("completions", {"prompt": PROMPT, "max_tokens": 1, "prompt_logprobs": 1})["choices"][0]
    first, second, *_ = choice["prompt_logprobs"]
    token = str(model.tokenizer.encode(PROMPT)[1])
    assert first is None
    assert second[token]["decoded_token"] == "nce"
    assert {entry["rank"] for entry in second.values()} == {1, None}


def test_token_ids_are_told_where_they_are_asked_for(model: neort.Model, ask: Ask) -> None:
    fields = {"prompt": PROMPT, "max_tokens": 3, "temperature": 0, "return_token_ids": True, "logprobs": 0}
    choice = ask("completions", {**fields, "return_tokens_as_token_ids": True})["choices"][0]
    (expected,) = generated(model, PROMPT, do_sample=False, max_new_tokens=3)
    assert choice["prompt_token_ids"] == model.tokenizer.encode(PROMPT)
    assert choice["token_ids"] == list(expected.token_ids)
    assert choice["logprobs"]["tokens"] == [f"token_id:{token_id}" for token_id in expected.token_ids]


def test_prompts_are_cut_at_their_beginning(model: neort.Model, ask: Ask) -> None:
    fields = {"max_tokens": 2, "return_token_ids": True}
    ids = model.tokenizer.encode(PROMPT)
    body = ask("completions", {**fields, "prompt": PROMPT, "truncate_prompt_tokens": 2})
    assert body["choices"][0]["prompt_token_ids"] == ids[-2:]
    room = model.spec.max_position_embeddings - 2
    body = ask("completions", {**fields, "prompt": [7] * 5000, "truncate_prompt_tokens": -1})
    assert body["usage"]["prompt_tokens"] == room


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"choice": ["yes", "no"]}},
        {"structured_outputs": {"regex": "yes|no"}},
        {"structured_outputs": {"grammar": 'start: "yes" | "no"'}},
        {"structured_outputs": {"json": {"enum": ["yes", "no"]}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["yes", "no"]}}}},
    ],
)
def test_structure_is_kept_to(ask: Ask, fields: Any) -> None:
    pytest.importorskip("llguidance")
    body = ask("completions", {"prompt": PROMPT, "max_tokens": 20, **fields})
    assert body["choices"][0]["text"].strip('"') in ("yes", "no")
    assert body["choices"][0]["finish_reason"] == "stop"


def test_a_repeated_prompt_is_told_as_cached(ask: Ask) -> None:
    prompt = "A prompt that only this test has"
    first, second = (ask("completions", {"prompt": prompt, "max_tokens": 1})["usage"] for _ in range(2))
    assert first["prompt_tokens_details"] == {"cached_tokens": 0}
    assert second["prompt_tokens_details"] == {"cached_tokens": second["prompt_tokens"]}


def test_answers_carry_the_request_s_id_and_the_model_s_name(ask: Ask) -> None:
    assert ask("completions", {"prompt": PROMPT, "max_tokens": 1}, request_id="abc")["id"] == "cmpl-abc"
    body = ask("completions", {"model": "other", "prompt": PROMPT, "max_tokens": 1, "request_id": "mine"})
    assert (body["id"], body["model"], body["object"]) == ("cmpl-mine", "other", "text_completion")


REFUSED: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"model": "gpt-4"}, 404, "model", "there are mini, other"),
    ({"prompt": None}, 400, "prompt", "missing"),
    ({"prompt": []}, 400, "prompt", "at least 1"),
    ({"prompt": [[]]}, 400, "prompt[0]", "at least 1"),
    ({"prompt": ["a", 3]}, 400, "prompt[1]", "must be a string or a list of token ids"),
    ({"prompt": [3, "a"]}, 400, "prompt[1]", "must be an integer"),
    ({"prompt": [4096]}, 400, "prompt[0]", "from 0 to 4095"),
    ({"prompt": ["a"] * 9}, 400, "prompt", "at most 8"),
    ({"prompt": "word " * 600}, 400, "prompt", "512 positions"),
    ({"max_tokens": 0}, 400, "max_tokens", "echo"),
    ({"max_tokens": True}, 400, "max_tokens", "integer"),
    ({"max_tokens": 2.5}, 400, "max_tokens", "integer"),
    ({"max_tokens": 100_000}, 400, "max_tokens", "512"),
    ({"n": 9}, 400, "n", "from 1 to 8"),
    ({"n": 2, "temperature": 0}, 400, "n", "above 0"),
    ({"n": 2, "best_of": 1}, 400, "best_of", "at least n"),
    ({"best_of": 2, "stream": True}, 400, "best_of", "stream"),
    ({"logprobs": 21}, 400, "logprobs", "from 0 to 20"),
    ({"logprobs": True}, 400, "logprobs", "integer"),
    ({"temperature": -1}, 400, "temperature", "from 0 to 1e+06"),
    ({"top_p": "1"}, 400, "top_p", "number"),
    ({"logit_bias": {"x": 1}}, 400, "logit_bias", "token id"),
    ({"logit_bias": {"1": 101}}, 400, "logit_bias.1", "-100 to 100"),
    ({"stop": ""}, 400, "stop", "a character at least"),
    ({"stop": ["a", 1]}, 400, "stop[1]", "string"),
    ({"min_tokens": 20, "max_tokens": 10}, 400, "min_tokens", "max_tokens 10"),
    ({"max_tokens": 510}, 400, "prompt", "max_tokens is 510"),
    ({"suffix": "x"}, 400, "suffix", "fill no gap"),
    ({"use_beam_search": True}, 400, "use_beam_search", "num_beams"),
    ({"guided_json": {}}, 400, "guided_json", "structured_outputs"),
    ({"max_new_tokens": 3}, 400, "max_new_tokens", "use max_tokens"),
    ({"tempratur": 3}, 400, "tempratur", "did you mean temperature"),
    ({"stream_options": {"include_usag": True}, "stream": True}, 400, "include_usag", "did you mean include_usage"),
    ({"stream_options": {}}, 400, "stream_options", "stream=true"),
    ({"stream": True, "prompt_logprobs": 1}, 400, "prompt_logprobs", "echo with logprobs"),
    ({"structured_outputs": {}}, 400, "structured_outputs", "one of json"),
    ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, 400, "structured_outputs", "follows one"),
    ({"response_format": {"type": "json_schema"}}, 400, "response_format", "no field json_schema"),
    ({"response_format": {"type": "xml"}}, 400, "response_format.type", "json_object"),
    ({"request_id": "a b"}, 400, "request_id", "must fit"),
    ({"truncate_prompt_tokens": 0}, 400, "truncate_prompt_tokens", "leaves no token"),
    ({"allowed_token_ids": [0], "min_tokens": 2}, 422, None, "Check the options"),
]


@pytest.mark.parametrize(("fields", "status", "param", "told"), REFUSED, ids=[str(each[0])[:60] for each in REFUSED])
def test_what_makes_no_sense_is_refused_by_the_field_s_name(
    refused: Any, fields: Any, status: int, param: str | None, told: str
) -> None:
    error = refused("completions", {"prompt": PROMPT, **fields})
    assert (error.status, error.param) == (status, param)
    assert told in error.message
    assert len(error.message) < 1000
