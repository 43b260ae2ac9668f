"""Streams: a chunk for each token, whose joined texts are the answer's, and what ends one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import neort
from handler_calls import answer, call, run
from neort.server.handlers import Events, Finished, Handlers, ServedModel
from neort.server.protocol import RequestError

PROMPT = "Once upon a time"

Ask = Callable[..., Any]


def joined(chunks: list[dict[str, Any]], index: int) -> dict[str, Any]:
    """One choice as the whole answer would have it."""
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    logprobs = [choice["logprobs"] for choice in choices if choice["logprobs"] is not None]
    return {
        "text": "".join(choice["text"] for choice in choices),
        "finish_reason": choices[-1]["finish_reason"],
        "stop_reason": choices[-1]["stop_reason"],
        "logprobs": {name: [x for each in logprobs for x in each[name]] for name in logprobs[0]} if logprobs else None,
    }


REQUESTS: list[dict[str, Any]] = [
    {"prompt": PROMPT, "max_tokens": 10, "seed": 3},
    {"prompt": [PROMPT, [5, 6]], "n": 2, "max_tokens": 6, "seed": 3, "logprobs": 1},
    {"prompt": "caf\u00e9 \u2013 na\u00efve", "max_tokens": 6, "temperature": 0, "logprobs": 0, "echo": True},
    {"prompt": PROMPT, "max_tokens": 0, "echo": True, "logprobs": 1},
    {"prompt": PROMPT, "max_tokens": 20, "temperature": 0, "stop": ["the Sc"]},
    {"prompt": PROMPT, "max_tokens": 20, "temperature": 0, "stop_token_ids": [279], "include_stop_str_in_output": True},
    {"prompt": PROMPT, "max_tokens": 8, "temperature": 0, "logit_bias": {"0": 100}},
    {"prompt": PROMPT, "max_tokens": 12, "allowed_token_ids": [97, 98, 99, 127, 128, 200], "seed": 1, "logprobs": 2},
]


@pytest.mark.parametrize("fields", REQUESTS, ids=[str(each)[:70] for each in REQUESTS])
def test_joined_chunks_are_the_whole_answer(ask: Ask, fields: dict[str, Any]) -> None:
    body = ask("completions", fields)
    chunks = ask("completions", {**fields, "stream": True, "stream_options": {"include_usage": True}})
    for choice in body["choices"]:
        told = joined(chunks, choice["index"])
        assert told == {name: choice[name] for name in told}
    *others, last = chunks
    assert all(chunk["usage"] is None and len(chunk["choices"]) == 1 for chunk in others)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == body["usage"]["completion_tokens"]
    assert last["usage"]["prompt_tokens"] == body["usage"]["prompt_tokens"]


def test_each_token_has_a_chunk_and_none_comes_before_the_first(ask: Ask) -> None:
    fields = {"prompt": PROMPT, "max_tokens": 12, "ignore_eos": True, "stream": True, "return_token_ids": True}
    for further in ({}, {"stop": ["a text that never comes, of which each end may be a beginning"]}):
        chunks = ask("completions", {**fields, **further})
        assert [len(chunk["choices"][0]["token_ids"]) for chunk in chunks] == [1] * 12
        assert all("usage" not in chunk for chunk in chunks)
        assert chunks[0]["choices"][0]["prompt_token_ids"] is not None
        assert chunks[1]["choices"][0]["prompt_token_ids"] is None


def test_the_last_token_of_a_grammar_has_the_last_chunk(ask: Ask) -> None:
    pytest.importorskip("llguidance")
    fields = {"prompt": PROMPT, "structured_outputs": {"choice": ["yes", "no"]}, "stream": True}
    chunks = ask("completions", {**fields, "return_token_ids": True})
    assert all(len(chunk["choices"][0]["token_ids"]) == 1 for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_usage_is_told_with_each_chunk_where_that_is_asked_for(ask: Ask) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = ask(
        "completions",
        {"prompt": PROMPT, "max_tokens": 4, "stream": True, "stream_options": options, "ignore_eos": True},
    )
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 3, 4, 4]
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {5}


class Notes:
    """An observer that writes everything down."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.figures: list[Finished] = []

    def request_started(self, model: str) -> None:
        self.told.append(("started", model))

    def first_token(self, model: str, seconds: float) -> None:
        self.told.append(("first", model))

    def token_gap(self, model: str, seconds: float) -> None:
        self.told.append(("gap", model))

    def finished(self, model: str, figures: Finished) -> None:
        self.told.append(("finished", model))
        self.figures.append(figures)

    def failed(self, model: str, status: int) -> None:
        self.told.append(("failed", status))

    def request_ended(self, model: str) -> None:
        self.told.append(("ended", model))

    def count(self, what: str) -> int:
        return sum(1 for told, _ in self.told if told == what)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def watched(model: neort.Model, notes: Notes) -> Handlers:
    return Handlers([ServedModel("mini", model, 1)], observer=notes)


LONG = {"prompt": PROMPT, "max_tokens": 400, "ignore_eos": True, "n": 2}


def idle(model: neort.Model) -> bool:
    """Whether nothing runs; waits until the engine has seen what was cancelled."""
    model._engine.settle()
    return not model._engine.running and not model._engine.waiting


async def opened(handlers: Handlers, payload: object, **facts: Any) -> Events:
    events = await handlers.completions(payload, call(**facts))
    assert isinstance(events, Events)
    return events


def test_closing_a_stream_ends_its_sequences(model: neort.Model, watched: Handlers, notes: Notes) -> None:
    async def first() -> None:
        events = await opened(watched, {**LONG, "stream": True})
        await anext(events.chunks)
        await events.chunks.aclose()

    run(first())
    assert idle(model)
    assert notes.told[-2:] == [("failed", 499), ("ended", "mini")]


def test_a_stream_that_is_never_read_has_no_sequences(model: neort.Model, watched: Handlers, notes: Notes) -> None:
    async def unread() -> None:
        events = await opened(watched, {**LONG, "stream": True})
        await events.chunks.aclose()

    run(unread())
    assert idle(model)
    assert notes.told == []


def test_cancelling_the_task_ends_the_sequences(model: neort.Model, watched: Handlers, notes: Notes) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(watched.completions(LONG, call()))
        while not notes.count("first"):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled())
    assert idle(model)
    assert notes.told[-2:] == [("failed", 499), ("ended", "mini")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_timeout_ends_the_sequences_and_names_the_limit(
    model: neort.Model, watched: Handlers, notes: Notes, stream: bool
) -> None:
    async def late() -> None:
        result = await watched.completions({**LONG, "stream": stream}, call(timeout=0.02))
        assert isinstance(result, Events)
        async for _ in result.chunks:
            pass

    with pytest.raises(RequestError, match=r"longer than 0\.02 seconds") as caught:
        run(late())
    assert (caught.value.status, caught.value.code) == (504, "timeout")
    assert idle(model)
    assert notes.told[-2:] == [("failed", 504), ("ended", "mini")]


def test_the_observer_learns_of_each_token_and_sequence(watched: Handlers, notes: Notes) -> None:
    fields = {"prompt": [PROMPT, "The"], "max_tokens": 4, "n": 2, "ignore_eos": True}
    run(watched.completions(fields, call()))
    assert notes.told[0] == ("started", "mini")
    assert notes.told[-1] == ("ended", "mini")
    assert (notes.count("first"), notes.count("gap"), notes.count("finished")) == (4, 12, 4)
    assert {(each.completion_tokens, each.reason) for each in notes.figures} == {(4, "length")}
    assert all(each.e2e_seconds >= each.prefill_seconds >= 0 for each in notes.figures)


def test_a_request_that_is_not_sound_is_none(watched: Handlers, notes: Notes) -> None:
    with pytest.raises(RequestError):
        run(watched.completions({}, call()))
    assert notes.told == []


def test_priority_is_the_request_s_else_the_call_s(
    model: neort.Model, watched: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    astreams = model.astreams

    def noting(prompts: Any, options: neort.GenerationConfig) -> Any:
        seen.append(options.priority)
        return astreams(prompts, options)

    monkeypatch.setattr(model, "astreams", noting)
    run(watched.completions({"prompt": PROMPT, "max_tokens": 1}, call(priority=3)))
    run(watched.completions({"prompt": PROMPT, "max_tokens": 1, "priority": -1}, call(priority=3)))
    assert seen == [3, -1]


def test_requests_that_run_at_once_get_what_each_gets_alone(model: neort.Model, watched: Handlers) -> None:
    payloads = [{"prompt": f"{PROMPT} {i}", "max_tokens": 3 + i, "seed": i, "stream": i % 2 == 1} for i in range(8)]

    async def text(payload: dict[str, Any]) -> str:
        result = await answer(watched, "completions", payload)
        chunks = result if isinstance(result, list) else [result]
        return "".join(chunk["choices"][0]["text"] for chunk in chunks)

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*map(text, payloads))

    expected = [
        model.generate(f"{PROMPT} {i}", max_new_tokens=3 + i, seed=i, do_sample=True, temperature=1.0, top_k=0).text
        for i in range(8)
    ]
    assert run(all_of_them()) == expected


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue_is_told_at_once_and_leaves_no_sequence(
    model: neort.Model, watched: Handlers, notes: Notes, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = model._engine.submit
    submitted: list[Any] = []

    def second_is_too_many(request: Any) -> None:
        if submitted:
            raise neort.BusyError("1 request waits, as many as may")
        submitted.append(request)
        submit(request)

    monkeypatch.setattr(model._engine, "submit", second_is_too_many)
    with pytest.raises(neort.BusyError):
        run(answer(watched, "completions", {**LONG, "stream": stream}))
    assert all(request.done for request in submitted)
    assert notes.told == [("started", "mini"), ("failed", 429), ("ended", "mini")]


def test_a_long_prompt_is_read_beside_the_event_loop(model: neort.Model, watched: Handlers) -> None:
    async def beside() -> None:
        task = asyncio.create_task(answer(watched, "tokenize", {"prompt": "word " * 50_000}))
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 2
        assert (await task)["count"] > 50_000

    run(beside())
