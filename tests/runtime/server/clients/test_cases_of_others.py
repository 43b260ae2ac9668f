"""The cases that llama.cpp's and vLLM's own tests try on their servers, tried on this one.

Whatever comes out is compared with what the model gives in this process.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import neort
from patience import PATIENCE
from served import Served, serving

PROMPT = "It was a dark night and"
OTHERS = ["The captain", "Once upon a time there was", "a", "He said, in the old tongue, that the"]
SAMPLING: dict[str, Any] = {"temperature": 0.9, "top_p": 0.95, "seed": 11}
RUNNING, WAITING = "neort:num_requests_running", "neort:num_requests_waiting"


def joined(events: Sequence[dict[str, Any]], index: int = 0) -> str:
    return "".join(c["text"] for event in events for c in event["choices"] if c["index"] == index)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what must happen, however slow the machine."""
    event = threading.Event()
    for _ in range(PATIENCE * 50):
        if condition():
            return
        event.wait(0.02)
    raise AssertionError("it never came")


def start(server: Served, **body: Any) -> http.client.HTTPConnection:
    """A connection whose streamed answer has begun."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    head = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/completions", json.dumps({"prompt": PROMPT, "stream": True} | body), head)
    return connection


# seeds and streams


def test_a_seed_repeats_its_text_and_another_seed_does_not(server: Served) -> None:
    first, again = (server.texts(PROMPT, max_tokens=16, **SAMPLING) for _ in range(2))
    assert first == again != server.texts(PROMPT, max_tokens=16, **(SAMPLING | {"seed": 12}))


def test_without_a_seed_texts_differ(server: Served) -> None:
    """Five texts of 16 tokens at temperature 2 are all equal with a probability below 1e-30."""
    assert len({*server.texts(PROMPT, max_tokens=16, temperature=2, n=5)}) > 1


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        SAMPLING,
        SAMPLING | {"n": 3},
        SAMPLING | {"echo": True},
        {"temperature": 0, "stop": [" the", "."]},
        {"temperature": 0, "logprobs": 2},
        {"temperature": 0, "ignore_eos": True, "max_tokens": 40},
    ],
    ids=str,
)
def test_a_stream_is_the_same_as_the_whole_answer(server: Served, options: dict[str, Any]) -> None:
    options = {"max_tokens": 12} | options
    whole = server.complete(PROMPT, **options)
    events = server.events(PROMPT, **options)
    for choice in whole["choices"]:
        own = [c for event in events for c in event["choices"] if c["index"] == choice["index"]]
        assert joined(events, choice["index"]) == choice["text"]
        assert [c["finish_reason"] for c in own if c["finish_reason"]] == [choice["finish_reason"]]
        if choice["logprobs"]:
            streamed = [value for c in own if c["logprobs"] for value in c["logprobs"]["token_logprobs"]]
            assert streamed == choice["logprobs"]["token_logprobs"]


def test_a_stream_has_an_event_for_each_token_and_the_same_id_in_all(server: Served) -> None:
    events = server.events(PROMPT, max_tokens=9, temperature=0, ignore_eos=True)
    assert len([event for event in events if event["choices"][0]["finish_reason"] is None]) in (8, 9)
    assert len({event["id"] for event in events}) == 1


def test_usage_comes_where_it_is_asked_for(server: Served) -> None:
    options = {"max_tokens": 5, "temperature": 0, "ignore_eos": True}
    assert not any(event.get("usage") for event in server.events(PROMPT, **options))
    last = server.events(PROMPT, stream_options={"include_usage": True}, **options)[-1]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 5)
    both = {"include_usage": True, "continuous_usage_stats": True}
    counts = [event["usage"]["completion_tokens"] for event in server.events(PROMPT, stream_options=both, **options)]
    assert counts == sorted(counts)
    assert counts[-1] == 5


# prompts


def test_prompts_of_every_kind_give_the_same_texts(server: Served, model: neort.Model) -> None:
    ids = [model.tokenizer.encode(prompt) for prompt in OTHERS]
    expected = [model.generate(prompt, max_new_tokens=6).text for prompt in OTHERS]
    options = {"max_tokens": 6, "temperature": 0}
    assert server.texts(OTHERS, **options) == expected
    assert server.texts(ids, **options) == expected
    assert server.texts([OTHERS[0], ids[1], OTHERS[2], ids[3]], **options) == expected
    assert [server.texts(each, **options)[0] for each in ids] == expected


def test_choices_of_several_prompts_are_numbered_prompt_by_prompt(server: Served) -> None:
    options = {"max_tokens": 5, **SAMPLING}
    both = server.complete(OTHERS[:2], n=2, **options)["choices"]
    assert [choice["index"] for choice in both] == [0, 1, 2, 3]
    assert [c["text"] for c in both[:2]] == server.texts(OTHERS[0], n=2, **options)


@pytest.mark.parametrize(
    "prompt", ["", [], [[]], [""], [-1], [1 << 40], {"a": 1}, 5, True, [1.5], [["a"]], [[1], [2.5]]]
)
def test_what_is_no_prompt_is_refused(server: Served, prompt: Any) -> None:
    status, error = server.refusal("/v1/completions", prompt=prompt, max_tokens=1)
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert error["message"].startswith("prompt") or error["param"] == "prompt"


def test_ids_of_a_prompt_and_of_its_text_are_told(server: Served, model: neort.Model) -> None:
    choice = server.complete(PROMPT, max_tokens=6, temperature=0, return_token_ids=True)["choices"][0]
    assert choice["prompt_token_ids"] == model.tokenizer.encode(PROMPT)
    assert choice["token_ids"] == list(model.generate(PROMPT, max_new_tokens=6).token_ids)


# the end of the context


@pytest.mark.parametrize("options", [{}, {"max_tokens": 1}, {"max_tokens": 1, "stream": True}], ids=str)
def test_a_prompt_beyond_the_context_is_refused_and_says_the_limit(server: Served, options: dict[str, Any]) -> None:
    for prompt in ([5] * 2000, "word " * 2000):
        status, error = server.refusal("/v1/completions", prompt=prompt, **options)
        assert status == 400
        assert "512" in error["message"]


def test_a_text_ends_where_the_context_does(server: Served) -> None:
    """The last new token needs no position: after a prompt of 504 tokens there is room for nine, of 512 positions."""
    body = {"prompt": [5] * 504, "temperature": 0, "ignore_eos": True}
    assert server.post("/v1/completions", max_tokens=9, **body)["usage"]["completion_tokens"] == 9
    status, error = server.refusal("/v1/completions", max_tokens=10, **body)
    assert (status, "512" in error["message"]) == (400, True)


def test_a_prompt_is_cut_where_that_is_asked_for(server: Served, model: neort.Model) -> None:
    ids = model.tokenizer.encode(OTHERS[3])
    options = {"max_tokens": 5, "temperature": 0}
    found = server.complete(ids, truncate_prompt_tokens=3, **options)
    assert found["usage"]["prompt_tokens"] == 3
    assert found["choices"][0]["text"] == server.texts(ids[-3:], **options)[0]


# log-probabilities


def test_log_probabilities_are_the_models(server: Served, model: neort.Model) -> None:
    found = server.complete(PROMPT, max_tokens=8, temperature=0, logprobs=3)["choices"][0]["logprobs"]
    expected = model.generate(PROMPT, max_new_tokens=8, logprobs=3).logprobs
    assert expected is not None
    assert len(found["tokens"]) == len(found["token_logprobs"]) == len(found["top_logprobs"]) == 8
    assert found["token_logprobs"] == [each.logprob for each in expected]
    for own, top in zip(found["token_logprobs"], found["top_logprobs"], strict=True):
        assert own == max(top.values())
        assert sum(math.exp(value) for value in top.values()) <= 1 + 1e-6


@pytest.mark.parametrize("echo", [False, True])
def test_offsets_say_where_each_token_begins(server: Served, echo: bool) -> None:
    choice = server.complete(PROMPT, max_tokens=10, temperature=0, logprobs=0, echo=echo)["choices"][0]
    tokens, offsets = choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
    assert "".join(tokens) == choice["text"]
    assert all(choice["text"].startswith(token, offset) for token, offset in zip(tokens, offsets, strict=True))
    assert offsets == sorted({*offsets})


def test_the_first_token_of_an_echo_has_no_probability_and_nothing_needs_to_follow(server: Served) -> None:
    choice = server.complete(PROMPT, max_tokens=0, echo=True, logprobs=1)["choices"][0]
    assert choice["text"] == PROMPT
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert all(value < 0 for value in choice["logprobs"]["token_logprobs"][1:])
    assert server.refusal("/v1/completions", prompt=PROMPT, max_tokens=0)[0] == 400


def test_log_probabilities_beyond_the_limit_are_refused(server: Served) -> None:
    status, error = server.refusal("/v1/completions", prompt=PROMPT, logprobs=10_000)
    assert (status, error["param"]) == (400, "logprobs")


def test_the_prompts_log_probabilities_are_those_of_an_echo(server: Served) -> None:
    prompt = server.complete(PROMPT, max_tokens=1, temperature=0, prompt_logprobs=1)["choices"][0]["prompt_logprobs"]
    echo = server.complete(PROMPT, max_tokens=1, temperature=0, echo=True, logprobs=1)["choices"][0]["logprobs"]
    assert prompt[0] is None
    assert len(prompt) + 1 == len(echo["token_logprobs"])


# what is chosen


def test_a_bias_rules_tokens_in_and_out(server: Served, model: neort.Model) -> None:
    token = model.tokenizer.encode(" captain")[0]
    options = {"max_tokens": 4, "temperature": 0, "return_token_ids": True}
    forced = server.complete(PROMPT, logit_bias={str(token): 100}, **options)["choices"][0]
    assert forced["token_ids"] == [token] * 4
    usual = server.complete(PROMPT, **options)["choices"][0]["token_ids"]
    other = server.complete(PROMPT, logit_bias={str(usual[0]): -100}, **options)["choices"][0]["token_ids"]
    assert usual[0] not in other


def test_only_allowed_tokens_are_chosen(server: Served) -> None:
    options = {"allowed_token_ids": [40, 41, 42], "max_tokens": 8, "return_token_ids": True}
    choice = server.complete(PROMPT, **SAMPLING, **options)["choices"][0]
    assert {*choice["token_ids"]} <= {40, 41, 42}


def test_stop_words_end_the_text_and_are_kept_where_that_is_asked_for(server: Served) -> None:
    options = {"max_tokens": 40, "temperature": 0}
    whole = server.texts(PROMPT, **options)[0]
    word = re.findall(r" \w+", whole)[3]
    cut = server.complete(PROMPT, stop=word, **options)["choices"][0]
    assert (cut["text"], cut["finish_reason"]) == (whole[: whole.index(word)], "stop")
    kept = server.complete(PROMPT, stop=[word], include_stop_str_in_output=True, **options)["choices"][0]
    assert kept["text"] == whole[: whole.index(word)] + word


def test_best_of_chooses_among_its_choices(server: Served) -> None:
    options = {"max_tokens": 6, **SAMPLING}
    three = server.texts(PROMPT, n=3, **options)
    assert server.texts(PROMPT, n=1, best_of=3, **options)[0] in three
    assert server.refusal("/v1/completions", prompt=PROMPT, n=3, best_of=2)[0] == 400


def test_a_choice_and_an_expression_are_kept_to(server: Served) -> None:
    pytest.importorskip("llguidance")
    options = {"max_tokens": 20, **SAMPLING}
    assert server.texts(PROMPT, structured_outputs={"choice": ["yes", "no"]}, **options)[0] in ("yes", "no")
    assert re.fullmatch("[0-9]{3}", server.texts(PROMPT, structured_outputs={"regex": "[0-9]{3}"}, **options)[0])
    assert server.refusal("/v1/completions", prompt=PROMPT, structured_outputs={"regex": "("})[0] == 400


# tokens and models


@pytest.mark.parametrize("text", [PROMPT, "", "Ünïcödé 🙂 \n\t \x00", "a" * 3000])
def test_tokens_of_a_text_become_the_text_again(server: Served, model: neort.Model, text: str) -> None:
    found = server.post("/tokenize", prompt=text)
    assert found["tokens"] == list(model.tokenizer.encode(text))
    assert found["count"] == len(found["tokens"])
    assert server.post("/detokenize", tokens=found["tokens"])["prompt"] == text


def test_the_model_is_listed_and_another_is_not_found(server: Served) -> None:
    assert [each["id"] for each in server.get("/v1/models")["data"]] == [server.model]
    for path, body in (("/v1/completions", {"prompt": "a"}), ("/tokenize", {"prompt": "a"})):
        status, error = server.refusal(path, model="another", **body)
        assert (status, error["code"] or error["type"]) == (404, "model_not_found")


# many at once


@pytest.mark.parametrize("clients", [2, 9])
def test_texts_are_those_of_requests_alone_however_many_run(server: Served, model: neort.Model, clients: int) -> None:
    prompts = [*OTHERS, PROMPT] * 3
    expected = [model.generate(prompt, max_new_tokens=4 + i).text for i, prompt in enumerate(prompts)]

    def ask(i: int) -> str:
        options = {"max_tokens": 4 + i, "temperature": 0}
        return joined(server.events(prompts[i], **options)) if i % 2 else server.texts(prompts[i], **options)[0]

    with ThreadPoolExecutor(clients) as pool:
        assert list(pool.map(ask, range(len(prompts)))) == expected


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_slot(server: Served, stream: bool) -> None:
    connection = start(server, stream=stream, max_tokens=480, ignore_eos=True, temperature=1.0, n=8)
    until(lambda: server.metric(RUNNING) > 0)
    connection.close()
    until(lambda: server.metric(RUNNING) == server.metric(WAITING) == 0)
    assert server.texts(PROMPT, max_tokens=1)


def test_figures_count_what_was_asked(server: Served) -> None:
    before = server.metric("neort:generation_tokens_total")
    server.complete(PROMPT, max_tokens=7, temperature=0, ignore_eos=True)
    until(lambda: server.metric("neort:generation_tokens_total") == before + 7)


# prefixes, and the end


def test_a_prefix_is_saved_loaded_by_another_server_and_released(
    server: Served, model: neort.Model, tmp_path: Path
) -> None:
    text = "The old house by the river had been empty for years, and nobody knew why." * 20
    assert server.post("/v1/prefixes", action="save", prompt=text, filename="house.bin")
    saved = server.prefixes / "house.bin"
    assert saved.stat().st_size > 0
    prompt = text + " One day"
    expected = model.generate(prompt, max_new_tokens=8).text
    with serving(tmp_path) as other:
        (other.prefixes / "house.bin").write_bytes(saved.read_bytes())
        other.post("/v1/prefixes", action="load", filename="house.bin")
        found = other.complete(prompt, max_tokens=8, temperature=0)
        assert found["choices"][0]["text"] == expected
        # only whole runs of the prefill are shared
        assert found["usage"]["prompt_tokens_details"]["cached_tokens"] == 256
        other.post("/v1/prefixes", action="release", filename="house.bin")
        assert other.texts(prompt, max_tokens=8, temperature=0) == [expected]


@pytest.mark.parametrize("name", ["../house.bin", "a/b", ".hidden", "", "a\x00b", "..", "C:\\x"])
def test_no_name_of_a_prefix_leaves_the_folder(server: Served, name: str) -> None:
    for action in ("save", "load"):
        status, _ = server.refusal("/v1/prefixes", action=action, prompt=PROMPT, filename=name)
        assert status == 400
    assert not (server.prefixes.parent / "house.bin").exists()


def test_a_server_that_is_told_to_end_lets_its_requests_end(tmp_path: Path, model: neort.Model) -> None:
    options = {"max_tokens": 200, "temperature": 0, "ignore_eos": True}
    with serving(tmp_path) as server:
        connections = [start(server, **options) for _ in range(6)]
        answers = [connection.getresponse() for connection in connections]
        server.process.terminate()
        texts = [joined([json.loads(line[6:]) for line in answer if line.startswith(b"data: {")]) for answer in answers]
        assert server.process.wait(PATIENCE) == 0
        for connection in connections:
            connection.close()
    assert {*texts} == {model.generate(PROMPT, max_new_tokens=200, ignore_eos=True).text}
