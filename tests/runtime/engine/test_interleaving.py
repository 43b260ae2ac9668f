"""Prompts are read while others are decoded: in which order, how much at a time, and with the same tokens as alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import CHUNK, LIMIT, VOCAB, FakeRunner, alone, drive, logits_of, make, submit
from neort.engine import EngineCore, Reading, Reduction, RowSource
from neort.errors import BusyError
from neort.runner import IDLE

PREFILLS = ("prefill", "prefill_prompts")


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner(max_batch_size=8, limit=4 * LIMIT)


@pytest.fixture
def engine(runner: FakeRunner) -> EngineCore:
    return EngineCore(runner, prefill_chunk=CHUNK)


def kinds(runner: FakeRunner) -> list[str]:
    """The runs, in their order."""
    return [call[0] for call in runner.calls if call[0] in (*PREFILLS, "decode")]


def most_prefills_between_steps(runner: FakeRunner) -> int:
    """How many runs of prompts there are at most between two steps."""
    text = "".join("d" if kind == "decode" else "p" for kind in kinds(runner))
    return max((len(part) for part in text.split("d")[1:-1]), default=0)


# One run at a time


def test_between_two_steps_of_a_stream_one_chunk_of_an_arriving_prompt_is_read(
    engine: EngineCore, runner: FakeRunner
) -> None:
    stream, _ = submit(engine, [1], max_new_tokens=30)
    engine.step()
    long, _ = submit(engine, range(16), max_new_tokens=3)
    runner.calls.clear()
    drive(engine, long)
    assert kinds(runner)[:8] == ["prefill", "decode"] * 4
    drive(engine, stream)
    assert stream.token_ids == alone([1], max_new_tokens=30).token_ids


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 30)), min_size=1, max_size=8))
@settings(max_examples=40)
def test_no_step_of_a_stream_waits_for_more_than_one_run_of_prompts(arrivals: list[tuple[int, int]]) -> None:
    runner = FakeRunner(max_batch_size=5, limit=128)
    engine = EngineCore(runner, prefill_chunk=CHUNK)
    stream, _ = submit(engine, [1], max_new_tokens=100)
    engine.step()
    for step in range(60):
        for arrival, length in arrivals:
            if arrival == step:
                submit(engine, [step % 7] * length, max_new_tokens=5)
        engine.step()
    assert most_prefills_between_steps(runner) <= 1
    assert len(stream.token_ids) == 62  # none of the steps went without it


def test_the_number_of_runs_between_two_steps_can_be_raised(runner: FakeRunner) -> None:
    engine = EngineCore(runner, prefill_chunk=CHUNK, prefill_runs=3)
    submit(engine, [1], max_new_tokens=40)
    engine.step()
    long, _ = submit(engine, range(16), max_new_tokens=3)
    runner.calls.clear()
    drive(engine, long)
    assert kinds(runner)[:6] == ["prefill", "prefill", "prefill", "decode", "prefill", "decode"]


# Turns


def test_a_short_prompt_waits_for_one_run_of_a_long_one_at_most(engine: EngineCore, runner: FakeRunner) -> None:
    long, _ = submit(engine, range(16), max_new_tokens=9)
    engine.step()
    short, _ = submit(engine, [1, 2], max_new_tokens=3)
    engine.step()
    assert (len(long.token_ids), len(short.token_ids)) == (0, 2)  # one of the prompt's run, one of the step
    drive(engine, long, short)
    assert long.token_ids == alone(range(16), max_new_tokens=9).token_ids
    assert short.token_ids == alone([1, 2], max_new_tokens=3).token_ids


def test_a_long_prompt_gets_every_second_run_however_many_short_ones_come(
    engine: EngineCore, runner: FakeRunner
) -> None:
    long, _ = submit(engine, range(16), max_new_tokens=2)
    steps = 0
    while not long.token_ids:
        submit(engine, [steps % 7] * CHUNK, max_new_tokens=1)
        engine.step()
        steps += 1
    assert steps <= 2 * 16 // CHUNK


def test_long_prompts_are_read_one_after_the_other(engine: EngineCore, runner: FakeRunner) -> None:
    drive(engine, *(submit(engine, [token] * 12, max_new_tokens=1)[0] for token in (1, 2)))
    assert [slot for slot, *_ in runner.runs("prefill")] == [0, 0, 0, 1, 1, 1]


def test_of_requests_that_wait_the_lowest_priority_starts_first_and_of_equal_ones_the_oldest() -> None:
    engine = EngineCore(FakeRunner(max_batch_size=1), prefill_chunk=CHUNK)
    first, _ = submit(engine, [1], max_new_tokens=2, priority=5)
    engine.step()
    waiting = [submit(engine, [2], max_new_tokens=1, priority=priority)[0] for priority in (1, 0, 1, -1)]
    ended = []
    while engine.busy:
        engine.step()
        ended += [request for request in waiting if request.done and request not in ended]
    assert first.done
    assert ended == [waiting[3], waiting[1], waiting[0], waiting[2]]


def test_a_request_that_does_not_fit_is_not_overtaken_by_later_ones() -> None:
    engine = EngineCore(FakeRunner(max_batch_size=4), prefill_chunk=CHUNK, max_cache_bytes=300)
    first, _ = submit(engine, [1], max_new_tokens=9)
    large, _ = submit(engine, [2] * 15, max_new_tokens=10)
    for token in (3, 4, 5):
        submit(engine, [token], max_new_tokens=2)
    while not first.done:
        engine.step()
        assert len(engine.waiting) == 4
    engine.step()
    assert large in engine.prefilling


# Together


@pytest.mark.parametrize("lengths", [[4, 4, 4, 4], [1, 4, 2, 3, 1], [3, 1]])
def test_short_prompts_that_arrive_together_are_read_in_one_run(
    engine: EngineCore, runner: FakeRunner, lengths: list[int]
) -> None:
    requests = [submit(engine, [i] * length, max_new_tokens=6)[0] for i, length in enumerate(lengths)]
    engine.step()
    assert kinds(runner) == ["prefill_prompts", "decode"]
    drive(engine, *requests)
    for i, (request, length) in enumerate(zip(requests, lengths, strict=True)):
        assert request.token_ids == alone([i] * length, max_new_tokens=6).token_ids


def test_beside_streams_a_run_has_no_more_tokens_than_a_chunk(engine: EngineCore, runner: FakeRunner) -> None:
    submit(engine, [1], max_new_tokens=40)
    engine.step()
    requests = [submit(engine, [i, i], max_new_tokens=20)[0] for i in range(5)]
    drive(engine, *requests)
    assert [lengths for _, lengths, _ in runner.runs("prefill_prompts")] == [[2, 2], [2, 2]]
    assert most_prefills_between_steps(runner) == 1


def test_prompts_in_slots_apart_come_together(engine: EngineCore, runner: FakeRunner) -> None:
    """Two sequences end with others after them, and two prompts take their slots."""
    ending = {1, 3}
    started = [submit(engine, [i], max_new_tokens=2 if i in ending else 30)[0] for i in range(5)]
    engine.step()
    requests = [submit(engine, [7, i], max_new_tokens=9)[0] for i in range(2)]
    drive(engine, *requests, *started)
    for i, request in enumerate(requests):
        assert request.token_ids == alone([7, i], max_new_tokens=9).token_ids
    for i, request in enumerate(started):
        assert request.token_ids == alone([i], max_new_tokens=2 if i in ending else 30).token_ids


def test_prompts_of_which_more_is_wanted_than_the_last_logits_are_run_alone(
    engine: EngineCore, runner: FakeRunner
) -> None:
    options: list[dict[str, Any]] = [{"prompt_logprobs": 0}, {"guidance_scale": 2.0}, {}]
    requests = [submit(engine, [1, 2, i], max_new_tokens=3, **more)[0] for i, more in enumerate(options)]
    drive(engine, *requests)
    assert runner.runs("prefill_prompts") == []


# Slots


def test_a_slot_whose_prompt_is_read_is_left_alone_by_steps_and_not_moved(
    engine: EngineCore, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    original = runner.decode

    def decode(token_ids: Any, lengths: Any) -> Any:
        seen.append(lengths.tolist())
        return original(token_ids, lengths)

    monkeypatch.setattr(runner, "decode", decode)
    long, _ = submit(engine, range(16), max_new_tokens=9)
    engine.step()
    short, _ = submit(engine, [1, 2], max_new_tokens=3)
    drive(engine, long, short)
    assert seen[0] == [IDLE, 2]
    assert runner.runs("move") == []
    assert long.token_ids == alone(range(16), max_new_tokens=9).token_ids


def test_no_cache_moves_where_an_arriving_prompt_takes_the_slot_of_a_finished_one(runner: FakeRunner) -> None:
    runner.max_batch_size = 2
    engine = EngineCore(runner, prefill_chunk=CHUNK)
    requests = [submit(engine, [i], max_new_tokens=3 + 9 * i)[0] for i in range(3)]
    drive(engine, requests[0])
    engine.step()
    assert engine.scheduler.slots.owners == [requests[2].sequences[0], requests[1].sequences[0]]
    assert runner.runs("move") == []


@pytest.mark.parametrize("place", [0, 1])
def test_a_prompt_that_is_cancelled_between_its_runs_leaves_its_slot_with_the_next_step(
    engine: EngineCore, place: int
) -> None:
    requests = [submit(engine, [token] * 16, max_new_tokens=3) for token in (1, 2)]
    engine.step()
    engine.cancel(requests[place][0])
    engine.step()
    assert engine.prefilling == [requests[1 - place][0]]
    drive(engine, requests[1 - place][0])
    assert (requests[place][1].results, engine.busy) == ([], False)
    assert requests[1 - place][0].token_ids == alone([2 - place] * 16, max_new_tokens=3).token_ids


# Limits


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_a_request_that_is_late_while_it_waits_ends_without_a_token(clock: list[float]) -> None:
    engine = EngineCore(FakeRunner(max_batch_size=1), prefill_chunk=CHUNK)
    submit(engine, [1], max_new_tokens=30)
    late, sink = submit(engine, [2], max_new_tokens=3, max_time=5.0)
    engine.step()
    clock[0] += 6
    engine.step()
    assert (late.done, sink.token_ids, sink.reason) == (True, [], "length")
    assert (list(engine.waiting), sink.results[0][1].queue_seconds) == ([], 6.0)


def test_a_request_that_is_late_in_its_prompt_ends_after_one_run_more_at_most(
    engine: EngineCore, runner: FakeRunner, clock: list[float]
) -> None:
    late, sink = submit(engine, range(16), max_new_tokens=3, max_time=5.0)
    engine.step()
    clock[0] += 6
    engine.step()
    assert (late.done, sink.token_ids, sink.reason) == (True, [], "length")
    assert len(runner.runs("prefill")) == 1
    assert not engine.busy


def test_time_in_the_queue_ends_with_the_first_run(clock: list[float]) -> None:
    engine = EngineCore(FakeRunner(max_batch_size=1), prefill_chunk=CHUNK)
    first, _ = submit(engine, [1], max_new_tokens=2)
    second, sink = submit(engine, [2] * 9, max_new_tokens=2)
    drive(engine, first)
    clock[0] += 3
    engine.step()
    clock[0] += 4
    drive(engine, second)
    ((_, stats),) = sink.results
    assert (stats.queue_seconds, stats.time_to_first_token) == (3.0, 7.0)


@pytest.mark.parametrize("most", [0, 2])
def test_more_requests_than_may_wait_are_refused_with_the_limit_and_the_remedy(most: int) -> None:
    engine = EngineCore(FakeRunner(max_batch_size=2), prefill_chunk=CHUNK, max_queue=most)
    requests = [submit(engine, [token], max_new_tokens=5)[0] for token in range(2)]  # they find a slot
    engine.step()
    requests += [submit(engine, [token], max_new_tokens=5)[0] for token in range(most)]
    with pytest.raises(BusyError, match=rf"{most} requests wait already, and max_queue is {most}; try again later, or"):
        submit(engine, [9], max_new_tokens=5)
    drive(engine, *requests)
    submit(engine, [9], max_new_tokens=5)


def test_sixty_four_sequences_run_within_the_cache_limit() -> None:
    runner = FakeRunner(max_batch_size=64)
    engine = EngineCore(runner, prefill_chunk=CHUNK, max_cache_bytes=64 * 12 * 10)
    requests = [submit(engine, [i % 7, i % 5], max_new_tokens=10)[0] for i in range(100)]
    most = 0
    while engine.busy:
        engine.step()
        figures = engine.figures
        most = max(most, figures.running + figures.prefilling)
        assert figures.cache_bytes <= 64 * 12 * 10
    assert most == 64
    for i, request in enumerate(requests):
        assert request.token_ids == alone([i % 7, i % 5], max_new_tokens=10).token_ids


# Figures


def test_figures_count_sequences_tokens_and_memory() -> None:
    engine = EngineCore(FakeRunner(max_batch_size=2), prefill_chunk=CHUNK, max_cache_bytes=1000)
    running, _ = submit(engine, [1, 2], max_new_tokens=9)
    engine.step()
    submit(engine, range(10), max_new_tokens=5)
    submit(engine, [3], max_new_tokens=5)
    engine.step()
    figures = engine.figures
    assert (figures.running, figures.prefilling, figures.waiting) == (1, 1, 1)
    assert (figures.cache_bytes, figures.max_cache_bytes) == (10 * (2 + 9 + 10 + 5), 1000)
    assert (figures.prefill_tokens, figures.generated_tokens) == (2 + CHUNK, len(running.token_ids))
    assert (figures.prefix_queries, figures.prefix_hits, figures.failed) == (0, 0, None)


def test_figures_name_the_error_that_ended_every_request(engine: EngineCore) -> None:
    submit(engine, [1], max_new_tokens=9)
    error = OSError("for ever")
    engine.fail_all(error)
    assert (engine.figures.failed, engine.busy) == (error, False)


# Texts that are read


class _Counted(Reading[int]):
    def __init__(self, length: int) -> None:
        self.token_ids = np.arange(length) % 7

    @property
    def first(self) -> int:
        return 0

    def reduction(self) -> Reduction[int]:
        return _Count()


class _Count:
    def __init__(self) -> None:
        self.rows = 0

    def add(self, start: int, rows: Any) -> None:
        for row, stop in zip(rows, range(start + 1, start + len(rows) + 1), strict=True):
            np.testing.assert_array_equal(row, logits_of((np.arange(stop) % 7).tolist()))
        self.rows += len(rows)

    def result(self) -> int:
        return self.rows


def test_a_long_text_is_read_between_the_steps_of_others_and_the_runs_of_their_prompts(
    engine: EngineCore, runner: FakeRunner
) -> None:
    stream, _ = submit(engine, [1], max_new_tokens=60)
    engine.step()
    prompt, _ = submit(engine, range(12), max_new_tokens=20)
    runner.calls.clear()
    source = RowSource(VOCAB, runner.prefill, runner.prefill_prompts)
    (result,) = engine.read([_Counted(24)], source)
    assert result.own == 24
    assert most_prefills_between_steps(runner) == 1
    drive(engine, stream, prompt)
    assert prompt.token_ids == alone(range(12), max_new_tokens=20).token_ids
    assert stream.token_ids[:20] == alone([1], max_new_tokens=20).token_ids


def test_logits_of_a_long_text_are_computed_between_the_steps_of_others(engine: EngineCore, runner: FakeRunner) -> None:
    submit(engine, [1], max_new_tokens=60)
    engine.step()
    runner.calls.clear()
    logits = engine.logits(np.arange(12))
    assert kinds(runner) == ["prefill", "decode", "prefill", "decode", "prefill"]
    np.testing.assert_array_equal(logits[-1], logits_of(range(12)))


def test_a_request_that_arrives_while_a_text_is_read_leaves_its_slot_alone(
    engine: EngineCore, runner: FakeRunner
) -> None:
    made = [make([token], max_new_tokens=5)[0] for token in (1, 2, 3)]

    def arrive() -> None:
        if len(kinds(runner)) == 1:
            for request in made:
                engine.submit(request)

    runner.before_prefill = arrive
    logits = engine.logits(np.arange(24) % 7)
    np.testing.assert_array_equal(logits, np.stack([logits_of((np.arange(i + 1) % 7).tolist()) for i in range(24)]))
    drive(engine, *made)
    for token, request in zip((1, 2, 3), made, strict=True):
        assert request.token_ids == alone([token], max_new_tokens=5).token_ids
