"""Drafted tokens change nothing but speed: identity on a runner without rounding, then the real model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neort
from neort.drafting import ModelDrafter, PromptLookup, Rehearse
from neort.engine import Engine, Request
from neort.speculation import LONGEST, PROBE, Speculator, best_length
from runtime.test_engine import CHUNK, LIMIT, POISON, FakeRunner, Sink, alone, drive, logits_of, make, submit

NEVER: Rehearse = lambda: lambda logits: 0  # noqa: E731


class Oracle:
    """Proposes what a function of the context says; a source of its own for every other length."""

    cost = 0.0

    def __init__(self, next_token: Callable[[list[int]], int]) -> None:
        self.next_token = next_token

    def start(self) -> Oracle:
        return self

    def source(self, context: list[int]) -> Hashable:
        return len(context) % 2

    def propose(self, context: list[int], count: int, rehearse: Rehearse) -> list[int]:
        text = list(context)
        for _ in range(count):
            text.append(self.next_token(text))
        return text[len(context) :]


def right(context: list[int]) -> int:
    return int(np.argmax(logits_of(context)))


def wrong(context: list[int]) -> int:
    return (right(context) + 1) % POISON


def sometimes(context: list[int]) -> int:
    return right(context) if sum(context) % 3 else wrong(context)


DRAFTERS: dict[str, Callable[[], Any]] = {
    "lookup": PromptLookup,
    "right": lambda: Oracle(right),
    "wrong": lambda: Oracle(wrong),
    "sometimes": lambda: Oracle(sometimes),
    "model": lambda: ModelDrafter(FakeRunner(max_batch_size=1), 0.0),
    "short model": lambda: ModelDrafter(FakeRunner(max_batch_size=1, limit=LIMIT // 2), 0.0),
}


def drafting(drafter: Any, runner: FakeRunner | None = None) -> Engine:
    runner = runner or FakeRunner()
    return Engine(runner, prefill_chunk=CHUNK, speculate=lambda: Speculator(drafter, 0.05))


def speculated(name: str, prompt: Sequence[int], **options: Any) -> tuple[Request, Sink]:
    engine = drafting(DRAFTERS[name]())
    request, sink = submit(engine, prompt, **options)
    drive(engine, request)
    return request, sink


# On a runner without rounding: the very tokens of plain decoding


@pytest.mark.parametrize("name", DRAFTERS)
@settings(max_examples=60, deadline=None)
@given(
    prompt=st.lists(st.integers(0, POISON - 1), min_size=1, max_size=20),
    count=st.integers(1, 40),
    overflow=st.sampled_from(["stop", "truncate_left"]),
    options=st.sampled_from(
        [
            {},
            {"do_sample": True, "temperature": 1.3, "top_p": 0.9},
            {"repetition_penalty": 1.3},
            {"eos_token_id": 3, "min_length": 12},
            {"do_sample": True, "top_k": 5, "eos_token_id": (2, 5)},
        ]
    ),
    stop_at=st.one_of(st.none(), st.integers(1, 9)),
    seed=st.integers(0, 9),
)
def test_tokens_and_endings_are_those_of_plain_decoding(
    name: str, prompt: list[int], count: int, overflow: str, options: dict[str, Any], stop_at: int | None, seed: int
) -> None:
    options = {**options, "max_new_tokens": count, "overflow": overflow, "seed": seed, "stop_at": stop_at}
    plain = alone(prompt, **options)
    request, sink = speculated(name, prompt, **options)
    assert sink.token_ids == plain.token_ids
    assert sink.reason == plain.reason
    assert request.accepted <= request.drafted


def test_a_right_draft_saves_runs_and_a_wrong_one_is_dropped_soon() -> None:
    runs = {}
    for name in ("right", "wrong"):
        engine = drafting(DRAFTERS[name](), runner := FakeRunner())
        request, _ = submit(engine, [1, 2], max_new_tokens=30)
        drive(engine, request)
        runs[name] = len(runner.calls)
        stats = request.stats()
        assert (stats.drafted_tokens, stats.accepted_tokens) == (request.drafted, request.accepted)
    assert runs["right"] < 10
    assert runs["wrong"] == 30


def test_only_a_sequence_that_is_alone_is_drafted_for() -> None:
    engine = drafting(Oracle(right), runner := FakeRunner())
    pair = [submit(engine, prompt, max_new_tokens=count) for prompt, count in (([1, 2], 12), ([3], 4))]
    drive(engine, *(request for request, _ in pair))
    assert pair[1][0].drafted == 0
    assert pair[0][0].drafted > 0
    assert len(runner.runs("decode")) >= 3
    for (_, sink), prompt in zip(pair, ([1, 2], [3]), strict=True):
        assert sink.token_ids == alone(prompt, max_new_tokens=len(sink.token_ids)).token_ids


def test_a_request_that_is_cancelled_in_the_middle_of_a_draft_takes_no_more_tokens() -> None:
    engine = drafting(Oracle(right))
    request, sink = make([1, 2], max_new_tokens=30)
    engine.submit(request)
    push = sink.push

    def cancel_at_5(token_id: int) -> bool:
        stop = push(token_id)
        if len(sink.token_ids) == 5:
            engine.cancel(request)
        return stop

    sink.push = cancel_at_5  # type: ignore[method-assign]
    drive(engine, request)
    assert len(sink.token_ids) == 5
    other, after = submit(engine, [4], max_new_tokens=6)
    drive(engine, other)
    assert after.token_ids == alone([4], max_new_tokens=6).token_ids


@pytest.mark.parametrize("name", ["lookup", "right", "model"])
def test_sampled_tokens_follow_the_model_s_distribution(name: str) -> None:
    """The third token of many seeds against its exact distribution given the two before; chi-square at 1e-4."""
    options = {"do_sample": True, "max_new_tokens": 3, "temperature": 0.8}
    counts: dict[tuple[int, int], Counter[int]] = {}
    for seed in range(3000):
        a, b, c = speculated(name, [1, 2, 1, 2], seed=seed, **options)[1].token_ids
        counts.setdefault((a, b), Counter())[c] += 1
    statistic, freedom = 0.0, 0
    for (a, b), seen in counts.items():
        logits = logits_of([1, 2, 1, 2, a, b]).astype(np.float64) / 0.8
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum() * seen.total()
        likely = expected >= 5
        if likely.sum() >= 2:
            observed = np.array([seen[i] for i in range(len(expected))])
            for got, want in [*zip(observed[likely], expected[likely], strict=True)]:
                statistic += (got - want) ** 2 / want
            rest = expected[~likely].sum()
            statistic += (observed[~likely].sum() - rest) ** 2 / rest if rest > 1 else 0.0
            freedom += int(likely.sum()) - 1 + int(rest > 1)
    assert freedom > 10
    assert statistic < freedom + 3.8 * np.sqrt(2 * freedom)


# Drafters


def test_prompt_lookup_copies_what_followed_the_longest_match() -> None:
    lookup = PromptLookup().start()
    context = [9, 1, 2, 3, 4, 5, 6, 2, 3, 7, 1, 2, 3, 4]
    assert lookup.source(context) == 4
    assert lookup.propose(context, 3, NEVER) == [5, 6, 2]
    context += [8, 2, 3]
    assert lookup.source(context) == 2
    assert lookup.propose(context, 2, NEVER) == [4, 8]  # the most recent occurrence
    assert lookup.source([*context, 17]) is None


def test_prompt_lookup_goes_on_with_a_period_that_runs_into_the_end() -> None:
    lookup = PromptLookup().start()
    context = [5, 1, 2, 3, 1, 2, 3]
    assert lookup.source(context) == 3
    assert lookup.propose(context, 8, NEVER) == [1, 2, 3, 1, 2, 3, 1, 2]


@pytest.mark.parametrize("length", [1, 2])
def test_prompt_lookup_has_nothing_in_a_text_that_is_too_short(length: int) -> None:
    assert PromptLookup().start().source([1] * length) is None


def test_a_draft_model_that_yields_nan_proposes_nothing() -> None:
    drafter = ModelDrafter(FakeRunner(max_batch_size=1), 0.1)
    request, _ = make([POISON, 1], max_new_tokens=5)
    assert drafter.propose([POISON, 1], 3, request.rehearse) == []


def test_a_draft_model_reads_only_what_it_does_not_hold() -> None:
    drafter = ModelDrafter(runner := FakeRunner(max_batch_size=1), 0.1)
    request, _ = make([1, 2, 3], max_new_tokens=9)
    drafted = drafter.propose([1, 2, 3], 4, request.rehearse)
    drafter.propose([1, 2, 3, drafted[0], (drafted[1] + 1) % POISON], 2, request.rehearse)
    assert [call[1:3] for call in runner.runs("prefill")] == [(0, 3), (4, 1)]


# How many


def test_the_best_length_grows_with_acceptance_and_falls_with_cost() -> None:
    assert best_length(0.05, 0.1, LONGEST) == 0
    assert best_length(0.999, 0.1, LONGEST) == LONGEST
    lengths = [best_length(a, 0.1, LONGEST) for a in np.linspace(0, 1, 50)]
    assert lengths == sorted(lengths)
    costs = [best_length(0.8, c, LONGEST) for c in np.linspace(0.01, 1, 50)]
    assert costs == sorted(costs, reverse=True)


def test_text_that_defies_drafts_costs_three_percent_at_most() -> None:
    """Every draft is wrong: the cost of all drafted rows over 500 steps."""
    cost = 0.1
    speculator = Speculator(Oracle(lambda context: 0), cost)
    drafted = 0
    for length in range(500):
        count = len(speculator.draft([1] * length, LONGEST, NEVER))
        drafted += count
        if count:
            speculator.learn(count, 0)
    assert drafted >= 500 // PROBE - 2  # it goes on trying
    assert drafted * cost < 0.03 * 500


def test_a_source_that_fails_does_not_discredit_another() -> None:
    speculator = Speculator(Oracle(lambda context: 0), 0.1)
    for length in range(60):
        if count := len(speculator.draft([1] * length, LONGEST, NEVER)):
            speculator.learn(count, count if length % 2 else 0)
    assert len(speculator.draft([1] * 61, LONGEST, NEVER)) > 8
    assert len(speculator.draft([1] * 62, LONGEST, NEVER)) <= 1


# The real model


def test_greedy_text_is_that_of_plain_decoding(model: neort.Model, bundle_path: Path) -> None:
    """Over a thousand tokens across the local window's edge; a near tie may end the comparison of a text."""
    looking = neort.load(bundle_path, num_threads=2, draft="prompt-lookup")
    total = same = 0
    for prompt in ("It was a dark night and", "The captain said", "My dear, I am so", "Once upon a time"):
        expected = model.generate(prompt, max_new_tokens=400).token_ids
        found = looking.generate(prompt, max_new_tokens=400)
        total += len(expected)
        same += next(
            (i for i, pair in enumerate(zip(expected, found.token_ids, strict=False)) if len({*pair}) > 1), 400
        )
        assert found.stats.accepted_tokens > 50
    assert same >= 0.75 * total


def test_a_model_drafts_for_itself(model: neort.Model, bundle_path: Path) -> None:
    drafted = neort.load(bundle_path, num_threads=2, draft=bundle_path)
    options: dict[str, Any] = {"max_new_tokens": 60, "do_sample": True, "seed": 3, "temperature": 0.8}
    found = drafted.generate("The captain said", **options)
    assert found.token_ids == model.generate("The captain said", **options).token_ids
    assert found.stats.accepted_tokens == found.stats.drafted_tokens


def test_a_draft_with_another_vocabulary_is_refused(
    bundle_path: Path, bundle_copy: Path, replace_file: Callable[[str, bytes], None]
) -> None:
    text = (bundle_copy / "tokenizer.json").read_text(encoding="utf-8")
    replace_file("tokenizer.json", text.replace('"Ġthe"', '"Ġthq"').replace("Ġ the", "Ġ thq").encode())
    with pytest.raises(neort.NeortError):
        neort.load(bundle_path, draft=bundle_copy)


def test_a_draft_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(neort.BundleError, match=r"no manifest\.json"):
        neort.load(draft=tmp_path)
