"""Drafted tokens change nothing but speed: identity on a runner without rounding, then the real model."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import CHUNK, LIMIT, POISON, VOCAB, FakeRunner, Sink, alone, drive, logits_of, make, submit
from neort.arrays import Ids, Logits
from neort.engine import EngineCore, Request
from neort.errors import ConfigError
from neort.generation import GenerationConfig, TokenChooser
from neort.speculative import Fork, ModelDrafter, PromptLookup, Speculator, draft_cost, verification_cost
from neort.speculative.speculator import ALLOWANCE, COSTS, LONGEST, PROBE, SAVED, START, Cost, best_length

NEVER: Fork = lambda: lambda logits: 0  # noqa: E731


class Oracle:
    """Proposes what a function of the context says; a source of its own for every other length."""

    cost = 0.0

    def __init__(self, next_token: Callable[[list[int]], int]) -> None:
        self.next_token = next_token

    def start(self) -> Oracle:
        return self

    def source(self, context: list[int]) -> Hashable:
        return len(context) % 2

    def propose(self, context: list[int], count: int, fork: Fork) -> list[int]:
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


def other_logits(context: Sequence[int]) -> Any:
    """Those of a worse model: near the right ones."""
    logits = logits_of(context).copy()
    logits[::3] -= 2
    return logits


def narrow_logits(context: Sequence[int]) -> Any:
    """Four likely tokens, so that what is sampled occurred before."""
    logits = 0.4 * logits_of(context)
    logits[4:] = -50
    return logits


class NarrowRunner(FakeRunner):
    """A model that writes four tokens only."""

    def prefill(self, slot: int, token_ids: Any, start: int, logits_to_keep: int) -> Any:
        super().prefill(slot, token_ids, start, logits_to_keep)
        return np.array([narrow_logits(self.slots[slot])] * logits_to_keep).reshape(logits_to_keep, VOCAB)

    def extend(self, token_ids: Any, start: int) -> Any:
        super().extend(token_ids, start)
        return np.array([narrow_logits(self.slots[0][: start + i + 1]) for i in range(len(token_ids))])

    def decode(self, token_ids: Any, lengths: Any) -> Any:
        super().decode(token_ids, lengths)
        return narrow_logits(self.slots[0])[None]


class OtherRunner(FakeRunner):
    """A draft model that is often wrong."""

    def prefill(self, slot: int, token_ids: Any, start: int, logits_to_keep: int) -> Any:
        super().prefill(slot, token_ids, start, logits_to_keep)
        return np.array([other_logits(self.slots[slot])] * logits_to_keep).reshape(logits_to_keep, VOCAB)

    def extend(self, token_ids: Any, start: int) -> Any:
        super().extend(token_ids, start)
        return np.array([other_logits(self.slots[0])] * len(token_ids))

    def decode(self, token_ids: Any, lengths: Any) -> Any:
        super().decode(token_ids, lengths)
        return other_logits(self.slots[0])[None]


TEMPERATURE = 0.8
DRAFTERS: dict[str, Callable[[], Any]] = {
    "lookup": PromptLookup,
    "right": lambda: Oracle(right),
    "wrong": lambda: Oracle(wrong),
    "sometimes": lambda: Oracle(sometimes),
    "model": lambda: ModelDrafter(FakeRunner(max_batch_size=1), 0.0),
    "other model": lambda: ModelDrafter(OtherRunner(max_batch_size=1), 0.0),
    "short model": lambda: ModelDrafter(FakeRunner(max_batch_size=1, limit=LIMIT // 2), 0.0),
}


def drafting(drafter: Any, runner: FakeRunner | None = None) -> EngineCore:
    runner = runner or FakeRunner()
    return EngineCore(runner, prefill_chunk=CHUNK, speculate=lambda: Speculator(drafter, Cost(0.0, 0.05)))


def speculated(name: str, prompt: Sequence[int], **options: Any) -> tuple[Request, Sink]:
    engine = drafting(DRAFTERS[name]())
    request, sink = submit(engine, prompt, **options)
    drive(engine, request)
    return request, sink


# On a runner without rounding: the very tokens of plain decoding


@pytest.mark.parametrize("name", DRAFTERS)
@settings(max_examples=60)
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


class Cycling:
    """A processor with a state: every third token, counted by its calls, it prefers others."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, ids: Ids, logits: Logits) -> Logits:
        self.calls += 1
        return logits if self.calls % 3 else np.roll(logits, self.calls % 7)


@pytest.mark.parametrize("name", DRAFTERS)
@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 4, "temperature": 0.8}])
def test_drafts_do_not_advance_a_processor_that_counts(name: str, options: dict[str, Any]) -> None:
    """A draft model chooses with a copy of the processors, and its drafts are right: they count as the request's do."""
    options = {**options, "max_new_tokens": 24}

    def counting() -> TokenChooser:
        return TokenChooser.from_config(GenerationConfig(**options), 2, processors=[Cycling()])

    plain = alone([1, 2], chooser=counting(), **options)
    request, sink = speculated(name, [1, 2], chooser=counting(), **options)
    assert sink.token_ids == plain.token_ids != alone([1, 2], **options).token_ids
    if name == "model":
        assert request.accepted == request.drafted > 10


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


def test_a_request_that_is_cancelled_while_a_draft_is_checked_takes_no_token_of_it() -> None:
    class Cancelling(FakeRunner):
        def extend(self, token_ids: Ids, start: int) -> Logits:
            engine.cancel(request)
            return super().extend(token_ids, start)

    engine = drafting(Oracle(right), runner := Cancelling())
    request, sink = submit(engine, [1, 2], max_new_tokens=30)
    drive(engine, request)
    tokens = len(sink.token_ids)
    engine.step()
    assert len(runner.runs("extend")) == 1
    assert (len(sink.token_ids), sink.results) == (tokens, [])
    assert tokens == 1 + len(runner.runs("decode"))


class Locked:
    """A processor that cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, ids: Ids, logits: Logits) -> Logits:
        return logits


def with_locked(prompt: Sequence[int], **options: Any) -> tuple[Request, Sink]:
    chooser = TokenChooser.from_config(GenerationConfig(**options), len(prompt), processors=[Locked()])
    return make(prompt, chooser=chooser, **options)


def test_a_processor_that_a_draft_model_cannot_copy_fails_its_own_request_only() -> None:
    engine = drafting(DRAFTERS["model"]())
    request, sink = with_locked([1, 2], max_new_tokens=9)
    engine.submit(request)
    drive(engine, request)
    assert sink.results == []
    with pytest.raises(ConfigError, match=r"Locked object .* cannot be copied .*without a draft model"):
        raise sink.errors[0]
    other, after = submit(engine, [3], max_new_tokens=9)
    drive(engine, other)
    assert after.token_ids == alone([3], max_new_tokens=9).token_ids


def test_a_processor_that_cannot_be_copied_serves_where_no_model_drafts() -> None:
    engine = drafting(Oracle(right))
    request, sink = with_locked([1, 2], max_new_tokens=9)
    engine.submit(request)
    drive(engine, request)
    assert request.drafted > 0
    assert sink.token_ids == alone([1, 2], max_new_tokens=9).token_ids


SEEDS = 1500  # at 1,200 the other model's distribution exceeds the limit threefold


def third_tokens(
    name: str, prompt: list[int], target: type[FakeRunner] = FakeRunner
) -> tuple[dict[tuple[int, int], Counter[int]], int, int]:
    """For many seeds the third new token, counted by the two before; and how many tokens were drafted and accepted."""
    counts: dict[tuple[int, int], Counter[int]] = {}
    drafted = accepted = 0
    for seed in range(SEEDS):
        engine = drafting(DRAFTERS[name](), target())
        request, sink = submit(engine, prompt, seed=seed, do_sample=True, max_new_tokens=4, temperature=TEMPERATURE)
        drive(engine, request)
        a, b, c, _ = sink.token_ids
        counts.setdefault((a, b), Counter())[c] += 1
        drafted, accepted = drafted + request.drafted, accepted + request.accepted
    return counts, drafted, accepted


def exceeds_chance(
    counts: dict[tuple[int, int], Counter[int]], prompt: list[int], logits: Callable[[list[int]], Any] = logits_of
) -> bool:
    """Whether counts differ from the model's distribution more than chi-square does in one of 10,000 cases.

    Tokens expected fewer than five times count as one; the quantile is Wilson and Hilferty's.
    """
    statistic, freedom = 0.0, 0
    for (a, b), seen in counts.items():
        scaled = logits([*prompt, a, b]).astype(np.float64) / TEMPERATURE
        expected = np.exp(scaled - scaled.max()) / np.exp(scaled - scaled.max()).sum() * seen.total()
        likely = expected >= 5
        observed = np.array([seen[i] for i in range(len(expected))])
        cells = [*zip(observed[likely], expected[likely], strict=True)]
        if (rest := expected[~likely].sum()) >= 5:
            cells.append((observed[~likely].sum(), rest))
        if len(cells) >= 2:
            statistic += sum((got - want) ** 2 / want for got, want in cells)
            freedom += len(cells) - 1
    assert freedom > 10
    spread = 2 / (9 * freedom)
    return bool(statistic > freedom * (1 - spread + 3.719 * np.sqrt(spread)) ** 3)


@pytest.mark.parametrize("name", ["lookup", "sometimes", "other model"])
def test_sampled_tokens_follow_the_model_s_distribution(name: str) -> None:
    """The third token of 1,500 seeds against its exact distribution given the two before.

    A right implementation fails with probability 1e-4 for each drafter, if the seeds were drawn anew.
    """
    prompt = [0, 1, 2, 3, 0, 2, 1, 3, 3, 1, 0, 3, 2, 2, 0, 0, 1, 1]  # every pair of the four
    target, logits = (NarrowRunner, narrow_logits) if name == "lookup" else (FakeRunner, logits_of)
    counts, drafted, accepted = third_tokens(name, prompt, target)
    assert 0.05 * drafted < accepted < 0.95 * drafted  # both outcomes are tested
    assert drafted > 2000
    assert not exceeds_chance(counts, prompt, logits)


def test_the_statistic_would_notice_the_draft_model_s_distribution() -> None:
    counts, _, _ = third_tokens("other model", [1, 2, 1, 2, 1])
    assert exceeds_chance(counts, [1, 2, 1, 2, 1], other_logits)


# Where a run's rows end


@pytest.mark.parametrize("count", range(1, 24))
def test_no_row_is_run_beyond_max_new_tokens(count: int) -> None:
    engine = drafting(Oracle(right), runner := FakeRunner())
    request, sink = submit(engine, [1, 2], max_new_tokens=count)
    drive(engine, request)
    assert sink.token_ids == alone([1, 2], max_new_tokens=count).token_ids
    assert len(runner.slots[0] if runner.slots else []) <= 2 + count
    assert all(start + rows <= 2 + count - 1 for start, rows in runner.runs("extend"))


@pytest.mark.parametrize("name", ["right", "sometimes", "model", "short model"])
@pytest.mark.parametrize("length", [1, LIMIT - 9, LIMIT - 2, LIMIT - 1, LIMIT])
def test_runs_end_at_the_end_of_the_context(name: str, length: int) -> None:
    """The runner refuses positions beyond the context."""
    prompt = [token % 7 for token in range(length)]
    request, sink = speculated(name, prompt, max_new_tokens=99, overflow="stop")
    assert (len(sink.token_ids), sink.reason) == (LIMIT - length + 1, "length")
    assert sink.token_ids == alone(prompt, max_new_tokens=99, overflow="stop").token_ids
    assert request.drafted or name in ("sometimes", "short model") or length > LIMIT - 9


@pytest.mark.parametrize("name", DRAFTERS)
def test_drafting_goes_on_where_the_oldest_tokens_are_dropped(name: str) -> None:
    options: dict[str, Any] = {"max_new_tokens": 3 * LIMIT, "overflow": "truncate_left"}
    request, sink = speculated(name, [1, 2, 3], **options)
    assert sink.token_ids == alone([1, 2, 3], **options).token_ids
    if name in ("right", "model"):
        assert request.accepted > LIMIT


@pytest.mark.parametrize("place", range(1, 12))
@pytest.mark.parametrize("ending", ["stop string", "end of text"])
def test_a_sequence_that_ends_inside_an_accepted_run_ends_there(place: int, ending: str) -> None:
    """Tokens after the end are not handed out, and the next sequence in the slot does not see them."""
    whole = alone([1, 2], max_new_tokens=20).token_ids
    at = whole.index(whole[place]) if ending == "end of text" else place
    options: dict[str, Any] = {"stop_at": place + 1} if ending == "stop string" else {"eos_token_id": whole[place]}
    engine = drafting(Oracle(right))
    request, sink = submit(engine, [1, 2], max_new_tokens=20, **options)
    drive(engine, request)
    assert (sink.token_ids, sink.reason) == (whole[: at + 1], "stop")
    after, _ = submit(engine, [1, 2], max_new_tokens=20)
    drive(engine, after)
    assert after.token_ids == whole


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
    assert drafter.propose([POISON, 1], 3, request.fork) == []


def test_a_draft_model_reads_only_what_it_does_not_hold() -> None:
    drafter = ModelDrafter(runner := FakeRunner(max_batch_size=1), 0.1)
    request, _ = make([1, 2, 3], max_new_tokens=9)
    drafted = drafter.propose([1, 2, 3], 4, request.fork)
    drafter.propose([1, 2, 3, drafted[0], (drafted[1] + 1) % POISON], 2, request.fork)
    assert [call[1:3] for call in runner.runs("prefill")] == [(0, 3), (4, 1)]


# How many


CHEAP = Cost(0.0, 0.1)


def test_the_best_length_grows_with_acceptance_and_falls_with_cost() -> None:
    assert best_length(0.05, CHEAP, LONGEST) == 0
    assert best_length(0.999, CHEAP, LONGEST) == LONGEST
    lengths = [best_length(a, CHEAP, LONGEST) for a in np.linspace(0, 1, 50)]
    assert lengths == sorted(lengths)
    costs = [best_length(0.8, Cost(0.0, c), LONGEST) for c in np.linspace(0.01, 1, 50)]
    assert costs == sorted(costs, reverse=True)


def test_a_run_s_own_cost_is_worth_paying_for_several_tokens_or_none() -> None:
    assert best_length(0.4, Cost(0.9, 0.1), LONGEST) == 0
    assert best_length(0.9, Cost(0.9, 0.1), LONGEST) > best_length(0.9, CHEAP, LONGEST) > 2


@settings(max_examples=200)
@given(
    outcomes=st.lists(st.integers(0, LONGEST), min_size=1, max_size=120),
    room=st.integers(1, LONGEST),
    run=st.floats(0, 1),
    token=st.floats(0.01, 1),
)
def test_what_drafts_lose_stays_within_the_budget_whatever_the_text(
    outcomes: list[int], room: int, run: float, token: float
) -> None:
    """Any sequence of accepted lengths, so also the worst: never behind plain decoding by more than the allowance."""
    speculator = Speculator(Oracle(lambda context: 0), Cost(run, token))
    written, lost = 0, 0.0
    for outcome in outcomes:
        written += 1
        if count := len(speculator.draft([1] * written, room, NEVER)):
            accepted = min(outcome, count)
            speculator.learn(count, accepted)
            written += accepted
            lost += run + count * token - accepted
        assert lost <= START + ALLOWANCE * written + 1e-9


def test_text_that_defies_drafts_is_tried_again_now_and_then() -> None:
    speculator = Speculator(Oracle(lambda context: 0), CHEAP)
    late = 0
    for length in range(1000):
        if count := len(speculator.draft([1] * length, LONGEST, NEVER)):
            speculator.learn(count, 0)
            late += length >= 500
    assert 500 // PROBE - 2 <= late <= 500 // PROBE + 2


def test_winnings_are_not_hoarded() -> None:
    """After a long quotation, a hostile text costs at most what the budget may hold."""
    speculator = Speculator(Oracle(lambda context: 0), CHEAP)
    length = 1
    for _ in range(100):
        if count := len(speculator.draft([1] * length, LONGEST, NEVER)):
            speculator.learn(count, count)
        length += 2
    lost = 0.0
    for _ in range(200):
        if count := len(speculator.draft([1] * length, LONGEST, NEVER)):
            speculator.learn(count, 0)
            lost += count * CHEAP.token
        length += 2
    assert lost <= SAVED + LONGEST + 200 * ALLOWANCE


def test_lengths_do_not_depend_on_the_clock() -> None:
    def lengths() -> list[int]:
        speculator = Speculator(PromptLookup(), CHEAP)
        found = []
        for end in range(2, 60):
            count = len(speculator.draft([i % 7 for i in range(end)], LONGEST, NEVER))
            found.append(count)
            if count:
                speculator.learn(count, count // 2)
        return found

    assert lengths() == lengths()
    assert max(lengths()) > 1


@pytest.mark.parametrize("quantization", [*COSTS, "unheard-of"])
def test_a_small_model_s_runs_are_dearer_than_a_large_one_s(quantization: str) -> None:
    small, large = (verification_cost(quantization, size) for size in (5_000_000, 1_400_000_000))
    assert small.run > large.run + 0.2
    assert small.token == large.token
    assert draft_cost(2_000_000, 5_000_000) > 2 / 5
    assert draft_cost(170_000_000, 1_400_000_000) == pytest.approx(0.12, abs=0.01)


def test_the_manifest_s_cost_is_that_of_a_format_that_the_table_lacks() -> None:
    stated = Cost(0.5, 0.3)
    assert verification_cost("unheard-of", 1 << 60, stated).token == stated.token
    assert verification_cost("unheard-of", 1 << 60, stated).run == pytest.approx(stated.run)
    assert verification_cost("int8", 1 << 30, stated) == verification_cost("int8", 1 << 30)


def test_a_source_that_fails_does_not_discredit_another() -> None:
    speculator = Speculator(Oracle(lambda context: 0), CHEAP)
    for length in range(400):
        if count := len(speculator.draft([1] * length, LONGEST, NEVER)):
            speculator.learn(count, count if length % 2 else 0)
    assert len(speculator.draft([1] * 401, LONGEST, NEVER)) > 8
    assert len(speculator.draft([1] * 402, LONGEST, NEVER)) <= 1
