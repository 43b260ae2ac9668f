"""Prompts that begin alike are prefilled once, and get what they get alone.

`Cuts` is a runner whose logits depend on how the prefill was cut, as a real one's last bits do.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import CHUNK, LIMIT, POISON, VOCAB, FakeRunner, Sink, drive, make, run_threads, submit
from neort.engine import Engine, EngineCore, Request
from neort.kvcache import Pin, PrefixCache

POSITION = FakeRunner().bytes_per_position
LOGITS = 4 * VOCAB
PLENTY = 1 << 20


class Cuts(FakeRunner):
    """A runner that remembers of each position in which run it was computed, and gives other logits for other runs."""

    def _append(self, slot: int, token_ids: list[int], start: int) -> None:
        run = 1 + 64 * start + len(token_ids)
        self._place(slot, [token + VOCAB * run for token in token_ids], start)


class Free(FakeRunner):
    """A runner whose logits depend on the tokens only."""

    prefix_granularity = 1


def keeping(runner: FakeRunner, budget: int = PLENTY) -> EngineCore:
    return EngineCore(runner, prefill_chunk=CHUNK, prefixes=PrefixCache(runner, budget=budget, block_size=CHUNK))


def kept(engine: EngineCore) -> PrefixCache:
    assert engine.prefixes is not None
    return engine.prefixes


def run(engine: EngineCore, prompt: Sequence[int], **options: Any) -> tuple[Request, Sink]:
    request, sink = submit(engine, prompt, **{"max_new_tokens": 3, **options})
    drive(engine, request)
    return request, sink


def prefilled(engine: EngineCore, prompt: Sequence[int]) -> tuple[int, int]:
    """Prompt tokens that are reused, and that are run."""
    runner = engine.runner
    assert isinstance(runner, FakeRunner)
    runner.calls.clear()
    _, sink = run(engine, prompt, max_new_tokens=1)
    ((_, stats),) = sink.results
    return stats.reused_tokens, sum(length for _, _, length, _ in runner.runs("prefill"))


def cold(runner: type[FakeRunner], prompt: Sequence[int], **options: Any) -> Sink:
    return run(EngineCore(runner(max_batch_size=1), prefill_chunk=CHUNK), prompt, **options)[1]


# What is reused


@pytest.mark.parametrize(
    ("common", "length", "whole_chunks", "any_token"),
    [(3, 10, 0, 3), (4, 10, 4, 4), (7, 10, 4, 7), (8, 10, 8, 8), (9, 12, 8, 9), (8, 9, 8, 8)],
)
def test_a_prompt_starts_after_what_it_has_in_common_with_an_earlier_one(
    common: int, length: int, whole_chunks: int, any_token: int
) -> None:
    first = list(range(9))
    second = first[:common] + [15] * (length - common)
    for runner, reused in ((Cuts(), whole_chunks), (Free(), any_token)):
        engine = keeping(runner)
        run(engine, first, max_new_tokens=1)
        assert prefilled(engine, second) == (reused, length - reused)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("runner", [Cuts, Free])
def test_a_prompt_that_was_kept_as_a_whole_needs_no_run(runner: type[FakeRunner], length: int) -> None:
    engine = keeping(runner())
    run(engine, range(length), max_new_tokens=1)
    assert prefilled(engine, range(length)) == (length, 0)
    assert run(engine, range(length))[0].token_ids == cold(runner, range(length)).token_ids


@pytest.mark.parametrize(("runner", "run_again"), [(Cuts, 4), (Free, 1)])
def test_a_prompt_that_ends_inside_a_kept_one_is_run_as_far_as_its_logits_need(
    runner: type[FakeRunner], run_again: int
) -> None:
    engine = keeping(runner())
    run(engine, range(12), max_new_tokens=1)
    assert prefilled(engine, range(8)) == (8 - run_again, run_again)


def test_equal_prompts_that_arrive_together_are_prefilled_once() -> None:
    runner = Cuts()
    engine = keeping(runner)
    requests = [submit(engine, range(10), max_new_tokens=5, do_sample=True, seed=i)[0] for i in range(4)]
    drive(engine, *requests)
    assert len(runner.runs("prefill")) == 3
    for seed, request in enumerate(requests):
        assert request.token_ids == cold(Cuts, range(10), max_new_tokens=5, do_sample=True, seed=seed).token_ids


def test_prompts_with_the_same_beginning_share_its_memory() -> None:
    engine = keeping(Cuts())
    for token in (14, 15, 16):
        run(engine, [*range(8), token])
    assert kept(engine).nbytes == (8 + 3) * POSITION + 3 * LOGITS


def test_the_next_prompt_of_a_conversation_starts_after_the_answer_where_steps_give_the_bits_of_a_prefill() -> None:
    for runner, reused in ((Cuts(), 4), (Free(), 6 + 7)):
        engine = keeping(runner)
        request, _ = run(engine, range(6), max_new_tokens=8)
        prompt = [*range(6), *request.token_ids, 15, 15]
        assert prefilled(engine, prompt) == (reused, len(prompt) - reused)  # the last new token is in no cache


def test_a_finished_sequence_replaces_its_prompt() -> None:
    engine = keeping(Free())
    run(engine, [1, 2], max_new_tokens=2)
    assert kept(engine).nbytes == 3 * POSITION


def test_a_cancelled_request_leaves_its_prompt_only() -> None:
    engine = keeping(Free())
    request, _ = submit(engine, range(6), max_new_tokens=20)
    for _ in range(3):
        engine.step()
    engine.cancel(request)
    assert kept(engine).nbytes == 6 * POSITION + LOGITS


def test_a_prompt_without_finite_logits_fails_each_time() -> None:
    engine = keeping(FakeRunner())
    for _ in range(2):
        request, sink = make([POISON, 2, 3], max_new_tokens=2)
        engine.submit(request)
        drive(engine, request)
        assert len(sink.errors) == 1


@pytest.mark.parametrize("runner", [Cuts, Free])
def test_text_past_a_full_context_goes_on_as_without_reuse(runner: type[FakeRunner]) -> None:
    engine = keeping(runner())
    options = {"max_new_tokens": 3 * LIMIT, "overflow": "truncate_left"}
    long = [token % 7 for token in range(2 * LIMIT)]
    for prompt in ([1, 2, 3], long, [1, 2, 3, 4, 5], long):
        assert run(engine, prompt, **options)[0].token_ids == cold(runner, prompt, **options).token_ids


@pytest.mark.parametrize("method", ["prefill", "write", "read"])
def test_an_interrupted_prefill_leaves_nothing_wrong(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    runner = Cuts()
    engine = keeping(runner)
    run(engine, range(8))
    request, _ = submit(engine, [*range(8), 1, 2], max_new_tokens=3)
    with monkeypatch.context() as patch:
        patch.setattr(runner, method, interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.step()
    engine.cancel(request)
    for prompt in ([*range(8), 1, 2], range(8), [*range(8), 1, 2, 3]):
        assert run(engine, prompt)[0].token_ids == cold(Cuts, prompt).token_ids


# The budget


def test_nothing_is_kept_without_a_budget() -> None:
    engine = keeping(Cuts(), budget=0)
    run(engine, range(9))
    assert kept(engine).nbytes == 0
    assert prefilled(engine, range(9)) == (0, 9)


def test_the_prompt_used_least_recently_goes_first() -> None:
    engine = keeping(Cuts(), budget=3 * (3 * POSITION + LOGITS))
    first, second, third, fourth = ([token] * 3 for token in (1, 2, 3, 4))
    for prompt in (first, second, third, first, fourth):
        run(engine, prompt)
    assert [prefilled(engine, prompt)[0] for prompt in (fourth, first, third)] == [3, 3, 3]
    assert prefilled(engine, second)[0] == 0


def test_the_end_of_a_prompt_goes_before_its_beginning() -> None:
    engine = keeping(Cuts(), budget=3 * CHUNK * POSITION + 2 * LOGITS)
    run(engine, range(12))
    run(engine, [15] * 4)
    assert prefilled(engine, [*range(12), 1])[0] == 8


def test_of_a_prompt_larger_than_the_budget_its_beginning_is_kept() -> None:
    engine = keeping(Cuts(), budget=2 * CHUNK * POSITION + 5)
    run(engine, range(15))
    assert kept(engine).nbytes == 2 * CHUNK * POSITION
    assert prefilled(engine, range(15))[0] == 8


prompts = st.builds(
    lambda base, cut, tail: ([token * (base + 1) % 9 for token in range(cut)] + tail)[: LIMIT + 4] or [1],
    st.integers(0, 2),
    st.integers(0, LIMIT),
    st.lists(st.integers(0, 3), max_size=3),
)
requests = st.fixed_dictionaries(
    {
        "prompt": prompts,
        "arrival": st.integers(0, 12),
        "cancel": st.none() | st.integers(0, 20),
        "pinned": st.none() | st.integers(0, 20),
        "options": st.fixed_dictionaries(
            {
                "max_new_tokens": st.integers(1, 24),
                "do_sample": st.booleans(),
                "seed": st.integers(0, 3),
                "overflow": st.sampled_from(["stop", "truncate_left"]),
            }
        ),
    }
)


@given(
    st.lists(requests, min_size=1, max_size=8),
    st.integers(1, 3),
    st.integers(0, 60) | st.just(PLENTY),
    st.sampled_from([Cuts, Free]),
)
@settings(max_examples=150)
def test_what_is_kept_changes_no_answer_and_stays_within_the_budget(
    specs: list[dict[str, Any]], slots: int, positions: int, kind: type[FakeRunner]
) -> None:
    budget = positions * POSITION
    engine = keeping(kind(max_batch_size=slots), budget)
    made = [make(spec["prompt"], **spec["options"]) for spec in specs]
    pins = {i: Pin() for i, spec in enumerate(specs) if spec["pinned"] is not None}
    for i, pin in pins.items():
        made[i][0].pin = pin
    for step in range(21 + 60 * len(specs)):
        for i, (spec, (request, _)) in enumerate(zip(specs, made, strict=True)):
            if spec["arrival"] == step:
                engine.submit(request)
            if spec["cancel"] == step >= spec["arrival"]:
                engine.cancel(request)
            if spec["pinned"] == step:
                kept(engine).release(pins[i])
        engine.step()
        pinned = sum(block.nbytes for pin in pins.values() for block in pin.blocks)
        assert kept(engine).nbytes <= budget + pinned
        if step > 20 and not engine.busy:
            break
    for spec, (request, sink) in zip(specs, made, strict=True):
        expected = cold(kind, spec["prompt"], **spec["options"])
        assert request.done
        if sink.results:
            assert (sink.token_ids, sink.reason) == (expected.token_ids, expected.reason)
        else:
            assert spec["cancel"] is not None
            assert sink.token_ids == expected.token_ids[: len(sink.token_ids)]


# Pins


def pinned(engine: EngineCore, prompt: Sequence[int]) -> Pin:
    request, _ = make(prompt, max_new_tokens=1)
    request.pin = pin = Pin()
    engine.submit(request)
    drive(engine, request)
    return pin


@pytest.mark.parametrize("budget", [0, 6 * POSITION])
def test_a_pinned_prefix_stays_beyond_the_budget(budget: int) -> None:
    engine = keeping(Cuts(), budget)
    pin = pinned(engine, range(10))
    for token in (11, 12, 13):
        run(engine, [token] * 5)
    assert prefilled(engine, [*range(8), 1])[0] == 8
    assert sum(block.nbytes for block in pin.blocks) == 10 * POSITION + LOGITS


def test_a_released_prefix_stays_as_far_as_the_budget_allows() -> None:
    engine = keeping(Cuts(), budget=5 * POSITION)
    pin = pinned(engine, range(10))
    kept(engine).release(pin)
    assert kept(engine).nbytes == 4 * POSITION
    kept(engine).release(pin)  # again
    assert prefilled(engine, range(10))[0] == 4


def test_a_prefix_is_pinned_as_often_as_it_was_asked_for() -> None:
    engine = keeping(Cuts(), budget=0)
    first, second = pinned(engine, range(8)), pinned(engine, range(8))
    kept(engine).release(first)
    assert prefilled(engine, range(8))[0] == 8
    kept(engine).release(second)
    assert kept(engine).nbytes == 0


def test_a_pin_that_nobody_holds_any_more_does_not_hold_its_prefix() -> None:
    engine = keeping(Cuts(), budget=0)
    pinned(engine, range(8))
    gc.collect()
    run(engine, [1])
    assert kept(engine).nbytes == 0


def test_releasing_inside_a_step_frees_the_memory_when_it_ends() -> None:
    runner = Cuts()
    engine = keeping(runner, budget=0)
    pin = pinned(engine, range(8))
    request, _ = submit(engine, [1, 2], max_new_tokens=3)
    runner.before_decode = lambda: kept(engine).release(pin)
    drive(engine, request)
    assert kept(engine).nbytes == 0


def test_threads_that_pin_and_release_get_the_tokens_they_get_alone() -> None:
    engine = Engine(keeping(Cuts(), budget=20 * POSITION))

    def work(seed: int) -> Callable[[], None]:
        def repeat() -> None:
            for i in range(20):
                prompt = [*range(4 * (i % 3)), seed, i % 5]
                request, sink = make(prompt, max_new_tokens=6, do_sample=True, seed=seed)
                request.pin = pin = Pin()
                engine.submit(request)
                engine.next_event(sink.events)
                engine.release(pin)
                assert request.token_ids == cold(Cuts, prompt, max_new_tokens=6, do_sample=True, seed=seed).token_ids

        return repeat

    run_threads(*(work(seed) for seed in range(4)))
    engine.settle()
    assert kept(engine.core).nbytes <= 20 * POSITION


def test_known_rows_can_be_pinned_as_those_of_a_prompt() -> None:
    source, target = keeping(Cuts()), keeping(Cuts(), budget=0)
    pin = pinned(source, range(10))
    rows = {name: np.concatenate([block.rows[name] for block in pin.blocks], axis=1) for name in pin.blocks[0].rows}
    logits = pin.blocks[-1].logits
    assert logits is not None
    other = Pin()
    kept(target).add(
        np.arange(10),
        lambda start, stop: {name: array[:, start:stop].copy() for name, array in rows.items()},
        logits,
        other,
    )
    for prompt in (range(10), [*range(8), 3]):
        assert prefilled(target, prompt)[0] == min(10, 8 + 2 * (prompt == range(10)))
        assert run(target, prompt)[0].token_ids == cold(Cuts, prompt).token_ids
