"""The engine, on `fakes.FakeRunner`, whose logits are a function of the tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import (
    CHUNK,
    LIMIT,
    POISON,
    VOCAB,
    FakeRunner,
    Sink,
    alone,
    drive,
    logits_of,
    make,
    run_threads,
    submit,
)
from neort.arrays import Ids, Logits
from neort.engine import EngineCore, Request, Stats
from neort.errors import BusyError, ConfigError, LogitsError, OutOfMemoryError, PromptError
from neort.generation import GenerationConfig, TokenChooser


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def engine(runner: FakeRunner) -> EngineCore:
    return EngineCore(runner, prefill_chunk=CHUNK)


# One step


def test_greedy_tokens_are_the_argmax_of_all_tokens_before(engine: EngineCore) -> None:
    context = [1, 2, 3]
    for _ in range(8):
        context.append(int(np.argmax(logits_of(context))))
    request, sink = submit(engine, [1, 2, 3], max_new_tokens=8)
    drive(engine, request)
    assert sink.token_ids == request.token_ids == context[3:]
    assert len(set(context[3:])) > 4


def test_prompts_are_prefilled_in_chunks_of_which_only_the_last_computes_logits(
    engine: EngineCore, runner: FakeRunner
) -> None:
    request, _ = submit(engine, range(10), max_new_tokens=1)
    drive(engine, request)
    assert runner.calls == [("prefill", 0, 0, 4, 0), ("prefill", 0, 4, 4, 0), ("prefill", 0, 8, 2, 1)]


@pytest.mark.parametrize(("length", "chunks"), [(1, [(0, 1, 1)]), (4, [(0, 4, 1)]), (5, [(0, 4, 0), (4, 1, 1)])])
def test_a_prompt_that_ends_with_a_chunk_needs_no_further_one(
    engine: EngineCore, runner: FakeRunner, length: int, chunks: list[tuple[int, int, int]]
) -> None:
    request, _ = submit(engine, range(length), max_new_tokens=1)
    drive(engine, request)
    assert runner.runs("prefill") == [(0, *chunk) for chunk in chunks]


def test_one_step_reads_short_prompts_in_one_run_and_decodes_all_of_them_in_another(
    engine: EngineCore, runner: FakeRunner
) -> None:
    sinks = [submit(engine, [1, 2, 3][:length], max_new_tokens=9)[1] for length in (1, 2, 3)]
    engine.step()
    assert runner.calls == [("prefill_prompts", 0, [1, 2, 3], 1), ("decode", 3)]
    assert [len(sink.token_ids) for sink in sinks] == [2, 2, 2]  # one of the prefill, one of the decode step


def test_a_step_without_requests_runs_nothing(engine: EngineCore, runner: FakeRunner) -> None:
    engine.step()
    assert runner.calls == []


# Ends


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_last_token_costs_no_forward_pass(engine: EngineCore, runner: FakeRunner, count: int) -> None:
    request, sink = submit(engine, [1, 2, 3], max_new_tokens=count)
    drive(engine, request)
    assert (len(sink.token_ids), sink.reason) == (count, "length")
    assert (len(runner.runs("prefill")), len(runner.runs("decode"))) == (1, count - 1)


@pytest.mark.parametrize("position", [0, 3])
def test_an_end_of_text_token_ends_the_sequence_and_is_handed_out(
    engine: EngineCore, runner: FakeRunner, position: int
) -> None:
    expected = alone([1, 2, 3], max_new_tokens=9).token_ids
    position = expected.index(expected[position])
    request, sink = submit(engine, [1, 2, 3], max_new_tokens=9, eos_token_id=(expected[position], VOCAB + 5))
    drive(engine, request)
    assert (sink.token_ids, sink.reason) == (expected[: position + 1], "stop")
    assert len(runner.runs("decode")) == position


def test_a_sink_ends_its_sequence_by_returning_true(engine: EngineCore) -> None:
    request, sink = submit(engine, [1, 2, 3], max_new_tokens=9, stop_at=4)
    drive(engine, request)
    assert (len(sink.token_ids), sink.reason) == (4, "stop")


def test_stopping_at_the_token_limit_counts_as_stop(engine: EngineCore) -> None:
    request, sink = submit(engine, [1, 2, 3], max_new_tokens=4, stop_at=4)
    drive(engine, request)
    assert (len(sink.token_ids), sink.reason) == (4, "stop")


def test_finished_requests_hold_no_slot(engine: EngineCore) -> None:
    request, _ = submit(engine, [1, 2, 3], max_new_tokens=4)
    drive(engine, request)
    assert (engine.running, list(engine.waiting)) == ([], [])


@pytest.mark.parametrize("first", [1, POISON])
def test_a_request_is_done_only_after_its_sink_was_told(engine: EngineCore, first: int) -> None:
    """Other threads look at `done` without the lock, and take what the sink has got by then for everything."""
    request, sink = submit(engine, [first, 2, 3], max_new_tokens=4)
    drive(engine, request)
    assert sink.done_when_told == [False]


def test_stats_count_tokens_and_order_times(engine: EngineCore) -> None:
    request, sink = submit(engine, [1, 2, 3], max_new_tokens=4)
    drive(engine, request)
    ((_, stats),) = sink.results
    assert (stats.prompt_tokens, stats.new_tokens) == (3, 4)
    assert 0 < stats.prefill_seconds <= stats.time_to_first_token
    assert stats.decode_seconds > 0
    assert stats.tokens_per_second == 3 / stats.decode_seconds
    assert stats.prompt_tokens_per_second == 3 / stats.prefill_seconds


def test_rates_of_nothing_are_zero() -> None:
    stats = Stats(prompt_tokens=3, new_tokens=0, time_to_first_token=0.0, prefill_seconds=0.0, decode_seconds=0.0)
    assert (stats.prompt_tokens_per_second, stats.tokens_per_second) == (0.0, 0.0)


# Slots


def test_the_last_sequence_takes_the_slot_of_a_finished_one(engine: EngineCore, runner: FakeRunner) -> None:
    lengths = {1: 9, 2: 3, 3: 9, 4: 9}  # prompt length: new tokens; the second of four finishes first
    requests = [submit(engine, range(1, n + 1), max_new_tokens=new)[0] for n, new in lengths.items()]
    drive(engine, requests[1])
    engine.step()
    assert engine.running == [requests[0], requests[3], requests[2]]
    assert runner.runs("move") == [(3, 1, 4 + 2)]  # its 4 prompt tokens, and 2 that were fed since
    drive(engine, *requests)
    for request, (length, new) in zip(requests, lengths.items(), strict=True):
        assert request.token_ids == alone(range(1, length + 1), max_new_tokens=new).token_ids


def test_no_cache_moves_when_the_last_sequence_finishes(engine: EngineCore, runner: FakeRunner) -> None:
    requests = [submit(engine, [1, 2], max_new_tokens=new)[0] for new in (9, 3)]
    drive(engine, *requests)
    assert runner.runs("move") == []


def test_all_slots_finishing_at_once_leaves_none_running(engine: EngineCore) -> None:
    requests = [submit(engine, [token], max_new_tokens=3)[0] for token in (1, 2, 3)]
    drive(engine, requests[0])
    assert all(request.done for request in requests)
    assert engine.running == []


def test_more_requests_than_slots_wait_and_get_the_tokens_they_get_alone() -> None:
    runner = FakeRunner(max_batch_size=2)
    engine = EngineCore(runner, prefill_chunk=CHUNK)
    specs = [([token] * (1 + token), 3 + token % 4) for token in range(7)]
    requests = [submit(engine, prompt, max_new_tokens=new)[0] for prompt, new in specs]
    engine.step()
    assert len(engine.running) == 2
    drive(engine, *requests)
    assert max(count for (count,) in runner.runs("decode")) == 2
    for request, (prompt, new) in zip(requests, specs, strict=True):
        assert request.token_ids == alone(prompt, max_new_tokens=new).token_ids


def test_a_request_that_ends_with_its_prefill_frees_its_slot_in_the_same_step() -> None:
    engine = EngineCore(FakeRunner(max_batch_size=1), prefill_chunk=CHUNK)
    requests = [submit(engine, [token], max_new_tokens=1)[0] for token in (1, 2, 3)]
    for count in (1, 2, 3):
        engine.step()
        assert sum(request.done for request in requests) == count
    assert not engine.busy


# Cancelling


def test_cancelling_a_running_request_frees_its_slot(engine: EngineCore) -> None:
    cancelled, sink = submit(engine, [1], max_new_tokens=9)
    other, _ = submit(engine, [2, 3], max_new_tokens=9)
    engine.step()
    engine.cancel(cancelled)
    engine.settle()
    assert engine.running == [other]
    handed_out = list(sink.token_ids)
    drive(engine, other)
    assert other.token_ids == alone([2, 3], max_new_tokens=9).token_ids
    assert (sink.token_ids, sink.results) == (handed_out, [])


def test_cancelling_a_waiting_request_takes_it_out_of_the_queue() -> None:
    runner = FakeRunner(max_batch_size=1)
    engine = EngineCore(runner, prefill_chunk=CHUNK)
    first, second, third = (submit(engine, [token], max_new_tokens=3)[0] for token in (1, 2, 3))
    engine.step()
    engine.cancel(second)
    drive(engine, first, third)
    assert len(runner.runs("prefill")) == 2
    assert second.token_ids == []


def test_cancelling_a_finished_request_changes_nothing(engine: EngineCore) -> None:
    finished, sink = submit(engine, [1], max_new_tokens=2)
    other, _ = submit(engine, [2, 3], max_new_tokens=9)
    drive(engine, finished)
    engine.cancel(finished)
    engine.settle()
    assert engine.running == [other]
    assert sink.reason == "length"
    drive(engine, other)
    assert other.token_ids == alone([2, 3], max_new_tokens=9).token_ids


@pytest.mark.parametrize("place", [0, 1, 2])
def test_cancelling_inside_a_step_leaves_the_others_unaffected(
    engine: EngineCore, runner: FakeRunner, place: int
) -> None:
    """The garbage collector may close a dropped stream at any point, also in the middle of the engine's own step."""
    prompts = [[1], [2, 3], [4, 5, 6]]
    requests = [submit(engine, prompt, max_new_tokens=9)[0] for prompt in prompts]
    engine.step()
    runner.before_decode = lambda: engine.cancel(requests[place])
    engine.step()
    runner.before_decode = lambda: None
    drive(engine, *requests)
    for i in {0, 1, 2} - {place}:
        assert requests[i].token_ids == alone(prompts[i], max_new_tokens=9).token_ids
    assert engine.running == []


def in_another_thread(work: Callable[[], object]) -> Callable[[], None]:
    """What does it there, and once only."""
    pending = [work]
    return lambda: run_threads(pending.pop()) if pending else None


def test_a_waiting_request_cancelled_during_the_last_step_of_the_last_one_leaves_nothing_behind() -> None:
    runner = FakeRunner(max_batch_size=1)
    engine = EngineCore(runner, prefill_chunk=CHUNK)
    last, waiting = (submit(engine, [token], max_new_tokens=2)[0] for token in (1, 2))
    runner.before_decode = in_another_thread(lambda: engine.cancel(waiting))
    engine.step()
    assert last.done
    assert list(engine.waiting) == []
    assert runner.slots == [[]]


def test_a_waiting_request_cancelled_while_another_one_is_prefilled_is_not_prefilled(
    engine: EngineCore, runner: FakeRunner
) -> None:
    first, waiting, third = (submit(engine, [token] * 5, max_new_tokens=9) for token in (1, 2, 3))
    runner.before_prefill = in_another_thread(lambda: engine.cancel(waiting[0]))
    while not third[1].token_ids:
        engine.step()
    assert [slot for slot, *_ in runner.runs("prefill")] == [0, 0, 2, 2]
    assert waiting[1].token_ids == []
    assert engine.running == [first[0], third[0]]
    drive(engine, first[0], third[0])
    assert third[1].token_ids == alone([3] * 5, max_new_tokens=9).token_ids


def test_the_rest_of_a_prompt_is_not_prefilled_once_its_request_is_cancelled(
    engine: EngineCore, runner: FakeRunner
) -> None:
    cancelled, sink = submit(engine, range(3 * CHUNK), max_new_tokens=3)
    other, _ = submit(engine, [1, 2], max_new_tokens=3)
    runner.before_prefill = in_another_thread(lambda: engine.cancel(cancelled))
    drive(engine, other)
    assert runner.runs("prefill") == [(0, 0, CHUNK, 0), (1, 0, 2, 1)]
    assert (sink.token_ids, sink.results) == ([], [])
    assert other.token_ids == alone([1, 2], max_new_tokens=3).token_ids


def test_a_request_cancelled_in_the_last_chunk_of_its_prompt_gets_no_token(
    engine: EngineCore, runner: FakeRunner
) -> None:
    cancelled, sink = submit(engine, [1, 2], max_new_tokens=3)
    runner.before_prefill = in_another_thread(lambda: engine.cancel(cancelled))
    engine.step()
    assert (sink.token_ids, sink.results) == ([], [])
    assert (engine.running, runner.slots) == ([], [[]])


@pytest.mark.parametrize("overflow", ["stop", "truncate_left"])
def test_a_request_cancelled_when_its_context_is_full_is_told_nothing_more(
    engine: EngineCore, runner: FakeRunner, overflow: str
) -> None:
    def cancel(_: Ids, logits: Logits) -> Logits:
        engine.cancel(full)
        return logits

    full, sink = submit(engine, [2] * LIMIT, max_new_tokens=9, overflow=overflow, chooser=TokenChooser([cancel]))
    drive(engine, full)
    engine.settle()
    assert (len(sink.token_ids), sink.results) == (1, [])
    assert len(runner.runs("prefill")) == LIMIT // CHUNK
    assert not engine.busy


def test_a_cancel_that_comes_when_a_step_has_dropped_its_own_is_settled_by_the_next_one(
    engine: EngineCore, runner: FakeRunner
) -> None:
    """Slots are released last of all."""
    request, _ = submit(engine, [1, 2], max_new_tokens=2)
    late, _ = make([3], max_new_tokens=2)

    def come_and_go() -> None:
        engine.submit(late)
        engine.cancel(late)

    runner.before_release = in_another_thread(come_and_go)
    drive(engine, request)
    engine.step()
    assert (list(engine.waiting), late.token_ids) == ([], [])


def test_what_is_cancelled_during_an_interrupted_step_is_settled_all_the_same() -> None:
    def interrupt() -> None:
        engine.cancel(waiting)
        raise KeyboardInterrupt

    runner = FakeRunner(max_batch_size=1)
    engine = EngineCore(runner, prefill_chunk=CHUNK)
    running, waiting = (submit(engine, [token], max_new_tokens=9)[0] for token in (1, 2))
    runner.before_decode = interrupt
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    assert running.done
    engine.settle()
    assert (engine.running, list(engine.waiting)) == ([], [])


# Errors


def test_a_poisoned_context_fails_its_own_request_only(engine: EngineCore) -> None:
    requests = [submit(engine, prompt, max_new_tokens=6) for prompt in ([1, 2], [POISON, 2], [3])]
    drive(engine, *(request for request, _ in requests))
    (first, _), (_, failed), (third, _) = requests
    assert [type(error) for error in failed.errors] == [LogitsError]
    assert (failed.token_ids, failed.results) == ([], [])
    assert first.token_ids == alone([1, 2], max_new_tokens=6).token_ids
    assert third.token_ids == alone([3], max_new_tokens=6).token_ids


def test_logits_that_turn_nan_while_decoding_fail_their_own_request_only(
    engine: EngineCore, runner: FakeRunner
) -> None:
    failing, failed = submit(engine, [1, 2], max_new_tokens=9)
    other, _ = submit(engine, [3], max_new_tokens=9)
    engine.step()

    def poison() -> None:
        runner.slots[0][0] = POISON

    runner.before_decode = poison
    engine.step()
    runner.before_decode = lambda: None
    drive(engine, failing, other)
    assert [type(error) for error in failed.errors] == [LogitsError]
    assert "position 4" in str(failed.errors[0])  # two prompt tokens and the two before
    assert len(failed.token_ids) == 2
    assert other.token_ids == alone([3], max_new_tokens=9).token_ids


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_run_that_fails_for_one_sequence_ends_that_one_only(
    engine: EngineCore, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """The run of all fails; each by itself succeeds, but for one."""

    def decode(*_: object) -> Logits:
        raise MemoryError("too large")

    def prefill(slot: int, ids: Ids, start: int, logits_to_keep: int) -> Logits:
        if slot == place:
            raise MemoryError("still too large")
        return original(slot, ids, start, logits_to_keep)

    original = runner.prefill
    made = [submit(engine, [token], max_new_tokens=9) for token in (1, 2, 3)]
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr(runner, "decode", decode)
        patch.setattr(runner, "prefill", prefill)
        engine.step()
    drive(engine, *(request for request, _ in made))
    for i, (request, sink) in enumerate(made):
        if i == place:
            assert [type(error) for error in sink.errors] == [OutOfMemoryError]
            assert len(request.token_ids) == 2
        else:
            assert request.token_ids == alone([i + 1], max_new_tokens=9).token_ids


@pytest.mark.parametrize("method", ["decode", "prefill", "reserve"])
def test_an_interrupted_run_leaves_the_engine_usable(
    engine: EngineCore, runner: FakeRunner, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    request, _ = submit(engine, range(6), max_new_tokens=9)
    with monkeypatch.context() as patch:
        patch.setattr(runner, method, interrupt)
        with pytest.raises(KeyboardInterrupt):
            drive(engine, request)
    engine.cancel(request)
    engine.settle()
    assert (engine.running, list(engine.waiting)) == ([], [])
    other, _ = submit(engine, [2, 3], max_new_tokens=9)
    drive(engine, other)
    assert other.token_ids == alone([2, 3], max_new_tokens=9).token_ids


def test_a_request_beside_an_interrupted_run_goes_on_with_the_same_tokens(
    engine: EngineCore, runner: FakeRunner
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    dropped, _ = submit(engine, [1], max_new_tokens=9)
    other, _ = submit(engine, [2, 3], max_new_tokens=9)
    engine.step()
    runner.before_decode = interrupt
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    runner.before_decode = lambda: None
    engine.cancel(dropped)
    drive(engine, other)
    assert other.token_ids == alone([2, 3], max_new_tokens=9).token_ids


# Overflow


def test_overflow_error_names_the_figures_and_the_remedies(engine: EngineCore) -> None:
    with pytest.raises(PromptError) as caught:
        submit(engine, range(10), max_new_tokens=24)
    message = str(caught.value)
    for part in ("10 tokens", "max_new_tokens is 24", "33 positions", "the model has 32", "Shorten the prompt"):
        assert part in message
    for remedy in ("lower max_new_tokens", '"stop"', '"truncate_left"'):
        assert remedy in message
    assert list(engine.waiting) == []


def test_overflow_error_lets_a_request_use_every_position(engine: EngineCore) -> None:
    request, sink = submit(engine, range(10), max_new_tokens=23)  # the last new token is never fed
    drive(engine, request)
    assert (len(sink.token_ids), sink.reason) == (23, "length")


@pytest.mark.parametrize("length", [1, 10, LIMIT - 1, LIMIT])
def test_overflow_stop_ends_where_the_context_is_full(engine: EngineCore, length: int) -> None:
    prompt = [token % 7 for token in range(length)]
    request, sink = submit(engine, prompt, max_new_tokens=99, overflow="stop")
    drive(engine, request)
    assert (len(sink.token_ids), sink.reason) == (LIMIT - length + 1, "length")


def test_overflow_stop_gives_a_prompt_longer_than_the_context_no_tokens(engine: EngineCore, runner: FakeRunner) -> None:
    request, sink = submit(engine, [1] * (LIMIT + 1), max_new_tokens=5, overflow="stop")
    drive(engine, request)
    assert (sink.token_ids, sink.reason) == ([], "length")
    assert runner.calls == []


def test_overflow_truncate_left_goes_on_past_the_limit_with_the_newest_tokens(engine: EngineCore) -> None:
    request, sink = submit(engine, [1, 2, 3], max_new_tokens=3 * LIMIT, overflow="truncate_left")
    drive(engine, request)  # the runner refuses positions beyond the limit
    assert (len(sink.token_ids), sink.reason) == (3 * LIMIT, "length")
    context, expected = [1, 2, 3], list[int]()
    for _ in range(3 * LIMIT):
        if len(context) == LIMIT + 1:  # the newest token has no position left
            missing = 3 * LIMIT - len(expected)
            context = context[-(LIMIT - min(missing - 1, LIMIT // 2)) :]
        expected.append(int(np.argmax(logits_of(context))))
        context.append(expected[-1])
    assert sink.token_ids == expected


@pytest.mark.parametrize(("new", "kept"), [(1, LIMIT), (5, LIMIT - 4), (99, LIMIT // 2)])
def test_overflow_truncate_left_keeps_the_newest_tokens_of_a_long_prompt(
    engine: EngineCore, runner: FakeRunner, new: int, kept: int
) -> None:
    prompt = [token % 7 for token in range(2 * LIMIT)]
    request, sink = submit(engine, prompt, max_new_tokens=new, overflow="truncate_left", stop_at=1)
    drive(engine, request)
    assert sum(length for _, _, length, _ in runner.runs("prefill")) == kept
    assert sink.token_ids == [int(np.argmax(logits_of(prompt[-kept:])))]


def test_overflow_truncate_left_restarts_no_prompt_that_fits(engine: EngineCore, runner: FakeRunner) -> None:
    request, _ = submit(engine, range(10), max_new_tokens=23, overflow="truncate_left")
    drive(engine, request)
    assert len(runner.runs("prefill")) == 3
    assert request.token_ids == alone(range(10), max_new_tokens=23).token_ids


def test_a_sequence_that_restarts_leaves_its_neighbours_unaffected(engine: EngineCore) -> None:
    long, _ = submit(engine, [1, 2], max_new_tokens=2 * LIMIT, overflow="truncate_left")
    full, stopped = submit(engine, [3], max_new_tokens=99, overflow="stop")
    short, _ = submit(engine, [4], max_new_tokens=LIMIT)
    drive(engine, long, full, short)
    assert long.token_ids == alone([1, 2], max_new_tokens=2 * LIMIT, overflow="truncate_left").token_ids
    assert stopped.token_ids == alone([3], max_new_tokens=99, overflow="stop").token_ids
    assert short.token_ids == alone([4], max_new_tokens=LIMIT).token_ids


@pytest.mark.parametrize("overflow", ["error", "stop", "truncate_left"])
@pytest.mark.parametrize("bad", [-1, VOCAB])
def test_unknown_token_ids_are_refused(engine: EngineCore, overflow: str, bad: int) -> None:
    with pytest.raises(PromptError, match=rf"token id {bad} is outside .* 19 tokens"):
        submit(engine, [1, bad, 2], max_new_tokens=1, overflow=overflow)


def test_an_empty_prompt_is_refused(engine: EngineCore) -> None:
    with pytest.raises(PromptError, match="empty"):
        submit(engine, [], max_new_tokens=1)


# Scoring


@pytest.mark.parametrize("length", [1, 4, 9, LIMIT])
def test_logits_scores_every_position(engine: EngineCore, length: int) -> None:
    ids = np.arange(length) % 7
    expected = np.stack([logits_of(ids[: end + 1].tolist()) for end in range(length)])
    np.testing.assert_array_equal(engine.logits(ids), expected)


def test_scoring_leaves_running_sequences_unaffected(engine: EngineCore) -> None:
    request, _ = submit(engine, [1, 2], max_new_tokens=9)
    engine.step()
    engine.logits(np.arange(9))
    drive(engine, request)
    assert request.token_ids == alone([1, 2], max_new_tokens=9).token_ids


def test_scoring_more_tokens_than_positions_is_refused(engine: EngineCore) -> None:
    with pytest.raises(PromptError, match=r"33 tokens .* 32 positions; score the text in pieces"):
        engine.logits(np.zeros(LIMIT + 1, np.int64))


def test_scoring_needs_a_free_slot() -> None:
    engine = EngineCore(FakeRunner(max_batch_size=1))
    submit(engine, [1, 2], max_new_tokens=9)
    engine.step()
    with pytest.raises(BusyError, match="all 1 slots are generating; raise max_batch_size, or wait"):
        engine.logits(np.arange(3))


def test_scoring_needs_room_beside_the_running_sequences() -> None:
    """What never fits is another error: waiting would not help."""
    engine = EngineCore(FakeRunner(), prefill_chunk=CHUNK, max_cache_bytes=100)
    request, _ = submit(engine, [1, 2], max_new_tokens=3)
    engine.step()
    with pytest.raises(BusyError, match="too little of max_cache_bytes 100 for 6 tokens; wait for a sequence"):
        engine.logits(np.arange(6))
    with pytest.raises(PromptError, match="11 tokens need 110 bytes of cache"):
        engine.logits(np.arange(11))
    drive(engine, request)
    assert engine.logits(np.arange(6)).shape == (6, VOCAB)


def test_what_never_fits_is_told_though_all_slots_are_taken() -> None:
    engine = EngineCore(FakeRunner(max_batch_size=1), prefill_chunk=CHUNK)
    submit(engine, [1, 2], max_new_tokens=9)
    engine.step()
    with pytest.raises(PromptError, match="33 tokens"):
        engine.logits(np.zeros(LIMIT + 1, np.int64))


# Sampling


def test_sampled_tokens_depend_neither_on_neighbours_nor_on_their_order(engine: EngineCore) -> None:
    prompts = {seed: [seed + 1] * (seed + 1) for seed in range(4)}
    expected = {seed: alone(p, max_new_tokens=12, do_sample=True, seed=seed).token_ids for seed, p in prompts.items()}
    assert len({tuple(tokens) for tokens in expected.values()}) == 4
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        requests = {s: submit(engine, prompts[s], max_new_tokens=12, do_sample=True, seed=s)[0] for s in order}
        drive(engine, *requests.values())
        assert {seed: request.token_ids for seed, request in requests.items()} == expected


def test_sequences_of_one_request_draw_from_different_streams() -> None:
    config = GenerationConfig(do_sample=True, seed=1, num_return_sequences=2)
    first, second = (Request(np.arange(3), config, Sink(), index) for index in (0, 1))
    draws = [request.chooser.generator.random() for request in (first, second) if request.chooser.generator]
    assert len(set(draws)) == 2


# Any mixture

requests = st.fixed_dictionaries(
    {
        "prompt": st.lists(st.integers(0, POISON - 1), min_size=1, max_size=LIMIT + 8),
        "arrival": st.integers(0, 12),
        "cancel": st.none() | st.integers(0, 20),
        "options": st.fixed_dictionaries(
            {
                "max_new_tokens": st.integers(1, 40),
                "do_sample": st.booleans(),
                "seed": st.integers(0, 3),
                "eos_token_id": st.none() | st.integers(0, POISON - 1),
                "min_new_tokens": st.none() | st.just(1),
                "repetition_penalty": st.sampled_from([None, 1.3]),
                "overflow": st.sampled_from(["stop", "truncate_left"]),
            }
        ),
    }
)


@given(st.lists(requests, min_size=1, max_size=7), st.integers(1, 4))
@settings(max_examples=60)
def test_arrivals_and_cancellations_do_not_change_what_a_finished_request_gets(
    specs: list[dict[str, Any]], slots: int
) -> None:
    engine = EngineCore(FakeRunner(max_batch_size=slots), prefill_chunk=CHUNK)
    made = [make(spec["prompt"], **spec["options"]) for spec in specs]
    last_event = max(max(spec["arrival"], spec["cancel"] or 0) for spec in specs)
    step = 0
    while step <= last_event or engine.busy:
        for spec, (request, _) in zip(specs, made, strict=True):
            if spec["arrival"] == step:
                engine.submit(request)
            if spec["cancel"] == step and spec["cancel"] >= spec["arrival"]:
                engine.cancel(request)
        engine.step()
        assert len(engine.running) + len(engine.prefilling) <= slots
        step += 1
    for spec, (request, sink) in zip(specs, made, strict=True):
        expected = alone(spec["prompt"], **spec["options"])
        assert request.done
        if sink.results:
            assert (sink.token_ids, sink.reason) == (expected.token_ids, expected.reason)
        else:  # cancelled on the way
            assert spec["cancel"] is not None
            assert sink.token_ids == expected.token_ids[: len(sink.token_ids)]


def test_contradicting_options_are_refused_before_a_request_exists() -> None:
    with pytest.raises(ConfigError, match="min_new_tokens=3 exceeds max_new_tokens=2"):
        make([1], max_new_tokens=2, min_new_tokens=3)


def test_requests_wait_for_room_within_the_cache_limit() -> None:
    engine = EngineCore(FakeRunner(), prefill_chunk=CHUNK, max_cache_bytes=100)
    requests = [submit(engine, [1, 2], max_new_tokens=3) for _ in range(3)]
    engine.step()
    assert len(engine.running) == 2
    drive(engine, *[request for request, _ in requests])
    assert [request.token_ids for request, _ in requests] == [requests[0][0].token_ids] * 3


def test_a_request_that_alone_exceeds_the_cache_limit_is_refused() -> None:
    engine = EngineCore(FakeRunner(), prefill_chunk=CHUNK, max_cache_bytes=100)
    with pytest.raises(PromptError, match="need 110 bytes of cache; max_cache_bytes is 100"):
        submit(engine, [1, 2], max_new_tokens=9)
    with pytest.raises(PromptError, match="max_cache_bytes"):
        engine.logits(np.ones(11, np.int64))


def test_idle_slots_give_their_memory_back(engine: EngineCore, runner: FakeRunner) -> None:
    request, _ = submit(engine, [1, 2], max_new_tokens=3)
    drive(engine, request)
    assert runner.slots == [[]]


def test_the_slot_after_the_last_one_gives_back_what_decoding_wrote_into_it(
    engine: EngineCore, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[int] = []
    monkeypatch.setattr(runner, "release", released.append)
    drive(engine, *(submit(engine, [1, 2], max_new_tokens=count)[0] for count in (2, 4)))
    assert released == [1, 2, 0, 1]  # two sequences, then one
