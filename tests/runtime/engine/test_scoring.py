"""Batches of readings on a stand-in for a session: what is run together, in which slots, and what comes out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import CHUNK, LIMIT, POISON, VOCAB, FakeRunner, logits_of, submit
from neort.arrays import Doubles
from neort.engine import EngineCore, ReadingScores, ScoredReading, TokenScores
from neort.engine.reading import MOST_NUMBERS, MOST_PADDING, MOST_ROWS, first_batch
from neort.engine.scoring import logits_of as source_of
from neort.errors import LogitsError, PromptError

IDS = st.lists(st.integers(0, POISON - 1), min_size=1, max_size=11)


def reading(ids: list[int], *targets: list[int], branches: tuple[ScoredReading, ...] = ()) -> ScoredReading:
    return ScoredReading(np.array(ids, np.int64), tuple(np.array(target, np.int64) for target in targets), branches)


def expected(ids: list[int], target: list[int], before: tuple[int, ...] = ()) -> tuple[Doubles, list[bool]]:
    """The log-probabilities of ``target`` after the last of ``ids``, and which are the largest."""
    rows = [logits_of([*before, *ids[: i + 1]]).astype(np.float64) for i in range(len(ids))][len(ids) - len(target) :]
    logprobs = [row[token] - np.log(np.exp(row).sum()) for row, token in zip(rows, target, strict=True)]
    return np.array(logprobs), [int(row.argmax()) == token for row, token in zip(rows, target, strict=True)]


def assert_scores(scores: TokenScores, wanted: tuple[Doubles, list[bool]]) -> None:
    np.testing.assert_allclose(scores.logprobs, wanted[0], rtol=1e-5)
    assert scores.greedy.tolist() == wanted[1]


def score(
    core: EngineCore, readings: list[ScoredReading], wanted: Callable[[], bool] = lambda: True
) -> list[ReadingScores]:
    return core.read([*readings], source_of(core.runner), wanted)


def score_all(core: EngineCore, readings: list[ScoredReading]) -> list[ReadingScores]:
    found: list[ReadingScores] = []
    while len(found) < len(readings):
        found += score(core, readings[len(found) :])
    return found


@given(st.lists(IDS, min_size=1, max_size=6), st.data())
@settings(max_examples=30)
def test_scores_are_those_of_each_reading_alone(lists: list[list[int]], data: st.DataObject) -> None:
    counts = [data.draw(st.integers(0, len(ids))) for ids in lists]
    targets = [data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=n, max_size=n)) for n in counts]
    core = EngineCore(FakeRunner(), prefill_chunk=CHUNK)
    scores = score_all(core, [reading(ids, target) for ids, target in zip(lists, targets, strict=True)])
    for ids, target, found in zip(lists, targets, scores, strict=True):
        assert_scores(found.own[0], expected(ids, target))


def test_branches_go_on_after_what_was_read_once() -> None:
    core = EngineCore(runner := FakeRunner(), prefill_chunk=CHUNK)
    branches = (reading([7, 8], [8, 1], [3, 4]), reading([9, 1, 2, 3, 4], [5]))
    (scores,) = score(core, [reading([1, 2, 3], [4], [5], branches=branches)])
    assert [len(branch) for branch in scores.branches] == [2, 1]
    assert_scores(scores.own[1], expected([1, 2, 3], [5]))
    assert_scores(scores.branches[0][1], expected([7, 8], [3, 4], before=(1, 2, 3)))
    assert_scores(scores.branches[1][0], expected([9, 1, 2, 3, 4], [5], before=(1, 2, 3)))
    assert sum(call[2] for call in runner.runs("prefill")) + 3 == 3 + 2 + 5


def test_readings_begin_together_and_go_on_alone() -> None:
    core = EngineCore(runner := FakeRunner(), prefill_chunk=CHUNK)
    score(core, [reading([1] * 9, [2] * 2), reading([3] * 3, [4])])
    assert runner.runs("prefill_prompts") == [(0, [4, 3], 1)]  # of the first nothing is wanted yet
    assert runner.runs("prefill") == [(0, 4, 4, 1), (0, 8, 1, 1)]


def test_scoring_takes_the_slots_after_running_ones_and_no_more_cache_than_there_is() -> None:
    core = EngineCore(runner := FakeRunner(max_batch_size=3), prefill_chunk=16, max_cache_bytes=200)
    request, sink = submit(core, [1, 2, 3], max_new_tokens=5)
    core.step()
    readings = [reading([5, 6], [1, 2])] * 4
    assert len(score(core, readings)) == 2  # slots
    assert runner.runs("prefill_prompts") == [(1, [2, 2], 2)]
    assert len(score(core, [reading([5] * 6, [1])] * 2)) == 2
    assert len(score(core, [reading([5] * 7, [1])] * 2)) == 1  # cache: 8 of its 20 positions are taken
    assert score(core, [reading([5] * 13, [1])]) == []
    while not request.done:
        core.step()
    assert sink.reason == "length"
    assert len(score(core, [reading([5] * 13, [1])])) == 1


def test_what_can_never_fit_is_refused() -> None:
    core = EngineCore(FakeRunner(), prefill_chunk=CHUNK, max_cache_bytes=100)
    with pytest.raises(PromptError, match="11 tokens need 110 bytes of cache"):
        core.check_reading(reading([1] * 8, [1], branches=(reading([1] * 3, [1]),)))
    with pytest.raises(PromptError, match=f"more than the model's {LIMIT} positions"):
        core.check_reading(reading([1] * (LIMIT + 1), [1]))
    with pytest.raises(PromptError, match="token id 19 is outside"):
        core.check_reading(reading([1], [1], branches=(reading([19], [1]),)))


def test_a_model_that_yields_nan_has_no_scores() -> None:
    core = EngineCore(FakeRunner(), prefill_chunk=CHUNK)
    with pytest.raises(LogitsError, match="NaN or infinite logits"):
        score(core, [reading([POISON, 1], [1])])


def test_nothing_is_run_on_once_nobody_waits() -> None:
    core = EngineCore(runner := FakeRunner(), prefill_chunk=CHUNK)
    assert score(core, [reading([1] * 9, [1])], wanted=lambda: False) == []
    assert runner.runs("prefill") == []


def test_a_run_has_few_logits_and_where_others_wait_few_tokens() -> None:
    vocabulary = 200_000
    whole, last = reading([1] * 64, [1] * 64), reading([1] * 256, [1])
    assert len(first_batch([whole] * 50, vocabulary, 256, alone=True)) == MOST_NUMBERS // (64 * vocabulary) == 2
    assert len(first_batch([last] * 50, vocabulary, 256, alone=True)) == MOST_ROWS // 256
    assert len(first_batch([last] * 50, vocabulary, 256, alone=False)) == 1
    assert len(first_batch([whole], MOST_NUMBERS, 256, alone=True)) == 1
    assert len(first_batch([reading([1] * 16, [1])] * 50, vocabulary, 256, alone=False)) == 16


@given(st.lists(st.integers(1, 256), min_size=1, max_size=40))
@settings(max_examples=30)
def test_a_run_has_little_padding_and_is_as_large_as_it_may_be(lengths: list[int]) -> None:
    readings = [reading([1] * length, [1]) for length in sorted(lengths, reverse=True)]

    def fits(count: int) -> bool:
        rows = count * len(readings[0].token_ids)
        return rows <= MOST_ROWS and rows - sum(len(each.token_ids) for each in readings[:count]) <= MOST_PADDING

    count = len(first_batch(readings, VOCAB, 256, alone=True))
    assert count == 1 or fits(count)
    assert count == len(readings) or not fits(count + 1)
