"""Groups of sequences on a fake runner: the best beams, what is copied, slots, neighbours, errors, guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fakes import CHUNK, LIMIT, POISON, VOCAB, FakeRunner, drive, logits_of, submit
from neort.arrays import Ids, Logits
from neort.engine import Beams, EngineCore, Found, Group
from neort.errors import ConfigError, LogitsError, PromptError
from neort.generation import GenerationConfig, TokenChooser, guided, log_probabilities, log_softmax
from neort.kvcache import PrefixCache


class BeamSink:
    """Keeps what a search hands out."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.errors: list[BaseException] = []

    def finish(self, found: list[Found]) -> None:
        self.found = found

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)


def beams(prompt: list[int], *, chooser: TokenChooser | None = None, **options: Any) -> tuple[Beams, BeamSink]:
    sink = BeamSink()
    config = GenerationConfig(**{"num_beams": 3, "max_new_tokens": 6, **options})
    return Beams(np.array(prompt, np.int64), config, sink, chooser), sink


def found(engine: EngineCore, prompt: list[int], **options: Any) -> list[tuple[int, ...]]:
    request, sink = beams(prompt, **options)
    engine.submit(request)
    drive_group(engine, request)
    assert not sink.errors
    return [each.token_ids for each in sink.found]


def drive_group(engine: EngineCore, request: Group) -> None:
    while not request.done:
        engine.step()


def searched(prompt: list[int], beams: int, count: int) -> list[list[int]]:
    """Beam search without a cache, an end or a length penalty: every beam's logits from its whole text."""
    texts, scores = [list(prompt)], np.zeros(1)
    for _ in range(count):
        totals = np.concatenate([scores[i] + log_softmax(logits_of(text)) for i, text in enumerate(texts)])
        best = np.argsort(-totals, kind="stable")[:beams]
        texts, scores = [[*texts[i // VOCAB], int(i % VOCAB)] for i in best], totals[best]
    return [text[len(prompt) :] for text in texts]


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner(max_batch_size=6)


@pytest.fixture
def engine(runner: FakeRunner) -> EngineCore:
    return EngineCore(runner, prefill_chunk=CHUNK)


@pytest.mark.parametrize("prompt", [[1], [2, 3, 4, 5], [7] * 9], ids=len)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_beams_are_those_of_a_search_without_a_cache(
    engine: EngineCore, runner: FakeRunner, prompt: list[int], count: int
) -> None:
    """The runner checks that each slot holds what the engine takes it to hold."""
    texts = found(engine, prompt, num_beams=count, num_return_sequences=count, max_new_tokens=9)
    assert [list(text) for text in texts] == searched(prompt, count, 9)
    assert (engine.running, engine.busy) == ([], False)


def test_the_prompt_is_run_once_and_copies_begin_where_beams_part(engine: EngineCore, runner: FakeRunner) -> None:
    prompt = list(range(1, 13))
    found(engine, prompt, num_beams=4, max_new_tokens=12)
    assert [start for _, start, *_ in runner.runs("prefill")] == [0, CHUNK, 2 * CHUNK]
    first, later = runner.runs("move")[:3], runner.runs("move")[3:]
    assert [(source, length) for source, _, length in first] == [(0, len(prompt))] * 3
    assert later
    assert all(start >= len(prompt) for _, _, _, start in later)


def test_others_get_their_own_tokens_beside_beams(engine: EngineCore) -> None:
    expected, _ = submit(EngineCore(FakeRunner(), prefill_chunk=CHUNK), [5, 6], max_new_tokens=12)
    alone = EngineCore(FakeRunner(), prefill_chunk=CHUNK)
    alone.submit(expected)
    drive(alone, expected)
    texts = found(EngineCore(FakeRunner()), [1, 2])
    beside, _ = submit(engine, [5, 6], max_new_tokens=12)
    last, _ = submit(engine, [9], max_new_tokens=2)
    assert found(engine, [1, 2]) == texts
    drive(engine, beside, last)
    assert beside.token_ids == expected.token_ids


def test_a_search_waits_for_all_of_its_slots_and_those_after_it_wait_as_well(engine: EngineCore) -> None:
    first, _ = submit(engine, [1], max_new_tokens=20)
    second, _ = submit(engine, [2], max_new_tokens=3)
    search, _ = beams([3], num_beams=5)
    engine.submit(search)
    third, _ = submit(engine, [4], max_new_tokens=3)
    engine.step()
    assert engine.running == [first, second]
    drive(engine, second)
    engine.step()
    assert engine.running == [first, search]
    assert not third.token_ids
    drive_group(engine, third)


def test_more_beams_than_slots_are_refused_with_both_figures(engine: EngineCore) -> None:
    request, _ = beams([1], num_beams=7)
    with pytest.raises(ConfigError, match=r"num_beams is 7, which needs 7 sequences at once; max_batch_size is 6"):
        engine.submit(request)


def test_the_cache_limit_counts_every_beam() -> None:
    engine = EngineCore(FakeRunner(), max_cache_bytes=200)
    request, _ = beams([1, 2], num_beams=3, max_new_tokens=5)
    with pytest.raises(PromptError, match="in 3 sequences, need 210 bytes"):
        engine.submit(request)


def test_a_cancelled_search_frees_its_slots(engine: EngineCore, runner: FakeRunner) -> None:
    beside, _ = submit(engine, [5, 6], max_new_tokens=9)
    search, sink = beams([1])
    engine.submit(search)
    engine.step()
    engine.cancel(search)
    engine.step()
    assert (engine.running, sink.found, sink.errors) == ([beside], [], [])


def test_a_processor_that_fails_ends_its_search_alone(engine: EngineCore) -> None:
    def fails_at_four(ids: Ids, logits: Logits) -> Logits:
        if len(ids) == 4:
            raise RuntimeError("four")
        return logits

    beside, _ = submit(engine, [5, 6], max_new_tokens=8)
    search, sink = beams([1, 2], chooser=TokenChooser([fails_at_four]))
    engine.submit(search)
    drive(engine, beside)
    assert [str(error) for error in sink.errors] == ["four"]
    assert len(beside.token_ids) == 8


def test_a_batch_that_fails_is_run_again_one_by_one_with_the_same_beams(engine: EngineCore, runner: FakeRunner) -> None:
    expected = found(EngineCore(FakeRunner()), [1, 2])

    def fail() -> None:
        if len(runner.runs("decode")) == 2:
            raise RuntimeError("once")

    runner.before_decode = fail
    assert found(engine, [1, 2]) == expected


def test_a_poisoned_prompt_fails_its_search(engine: EngineCore) -> None:
    search, sink = beams([POISON])
    engine.submit(search)
    drive_group(engine, search)
    assert isinstance(sink.errors[0], LogitsError)


def only(*allowed: int) -> Callable[[Ids, Logits], Logits]:
    """A processor that allows these tokens."""

    def process(ids: Ids, logits: Logits) -> Logits:
        kept = np.full_like(logits, -np.inf)
        kept[list(allowed)] = logits[list(allowed)]
        return kept

    return process


def test_what_processors_rule_out_is_never_taken_and_the_search_goes_on_with_fewer_beams(engine: EngineCore) -> None:
    texts = found(
        engine, [5], chooser=TokenChooser([only(2, 3)]), num_beams=5, num_return_sequences=4, max_new_tokens=2
    )
    assert sorted(texts) == [(2, 2), (2, 3), (3, 2), (3, 3)]
    request, sink = beams([5], chooser=TokenChooser([only(2)]), num_return_sequences=2, max_new_tokens=2)
    engine.submit(request)
    drive_group(engine, request)
    assert "leave 1 of the 2 texts that num_return_sequences asks for, of at most 2 tokens" in str(sink.errors[0])


def test_a_beam_at_a_dead_end_gives_way_to_others_and_the_last_one_says_so(engine: EngineCore) -> None:
    def dead_end_after(*tokens: int) -> Callable[[Ids, Logits], Logits]:
        def process(ids: Ids, logits: Logits) -> Logits:
            if ids[-1] in tokens:
                raise LogitsError(f"nothing follows {ids[-1]}")
            return only(2, 3)(ids, logits)

        return process

    chooser = TokenChooser([dead_end_after(2)])
    texts = found(engine, [5], chooser=chooser, max_new_tokens=3, num_return_sequences=2)
    assert sorted(texts) == [(3, 3, 2), (3, 3, 3)]
    everywhere = TokenChooser([dead_end_after(2, 3)])
    assert found(engine, [5], chooser=everywhere, eos_token_id=2) == [(2,)]
    request, sink = beams([5], chooser=everywhere)
    engine.submit(request)
    drive_group(engine, request)
    assert "nothing follows" in str(sink.errors[0])


def test_scores_that_are_no_numbers_end_a_search(engine: EngineCore) -> None:
    def break_one(ids: Ids, logits: Logits) -> Logits:
        return np.where(np.arange(VOCAB) == 3, np.float32(np.nan), logits)

    request, sink = beams([5], chooser=TokenChooser([break_one]))
    engine.submit(request)
    drive_group(engine, request)
    assert "return NaN or +inf at position 1" in str(sink.errors[0])


def test_beams_end_where_the_context_is_full_or_go_on_with_the_newest_tokens(engine: EngineCore) -> None:
    prompt = [3] * (LIMIT - 4)
    (stopped,) = found(engine, prompt, max_new_tokens=20, overflow="stop")
    assert len(stopped) == 5
    (longer,) = found(engine, prompt, max_new_tokens=20, overflow="truncate_left")
    assert len(longer) == 20
    assert found(engine, [3] * (LIMIT + 1), overflow="stop", num_return_sequences=2) == [(), ()]


@pytest.mark.parametrize("granularity", [None, 1])
def test_stored_prefixes_change_no_beam(granularity: int | None) -> None:
    runner = FakeRunner()
    runner.prefix_granularity = granularity
    engine = EngineCore(runner, prefill_chunk=CHUNK, prefixes=PrefixCache(runner, budget=10_000, block_size=CHUNK))
    expected = found(EngineCore(FakeRunner(), prefill_chunk=CHUNK), [1, 2, 3, 4, 5, 6])
    for _ in range(2):
        assert found(engine, [1, 2, 3, 4, 5, 6]) == expected
    assert runner.runs("write")


def test_sampled_beams_follow_from_their_seed(engine: EngineCore) -> None:
    options: dict[str, Any] = {"do_sample": True, "num_return_sequences": 3, "max_new_tokens": 5}
    texts = [found(engine, [1], seed=seed, **options) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_logprobs_of_beams_add_up_to_their_scores(engine: EngineCore) -> None:
    request, sink = beams([1, 2], logprobs=2, num_return_sequences=3, length_penalty=1.0)
    engine.submit(request)
    drive_group(engine, request)
    for each in sink.found:
        assert [entry.token_id for entry in each.logprobs] == list(each.token_ids)
        assert np.mean([entry.logprob for entry in each.logprobs]) == pytest.approx(each.score, abs=1e-5)


# Log-probabilities of plain sequences


@pytest.mark.parametrize("stored", [False, True])
def test_logprobs_are_those_of_the_models_own_distribution(stored: bool) -> None:
    runner = FakeRunner()
    prefixes = PrefixCache(runner, budget=10_000, block_size=CHUNK)
    engine = EngineCore(runner, prefill_chunk=CHUNK, prefixes=prefixes)
    prompt = [1, 2, 3, 4, 5, 6]
    if stored:
        drive(engine, submit(engine, prompt, max_new_tokens=1)[0])
    request, _ = submit(engine, prompt, max_new_tokens=5, logprobs=3, prompt_logprobs=0, repetition_penalty=5.0)
    drive(engine, request)
    text = prompt + request.token_ids
    entries = [*request.prompt_logprobs[1:], *request.logprobs]
    assert request.prompt_logprobs[0] is None
    for position, entry in enumerate(entries, 1):
        assert entry is not None
        expected = log_softmax(logits_of(text[:position]))
        assert entry.token_id == text[position]
        assert entry.logprob == pytest.approx(expected[text[position]], abs=1e-5)
        best = np.argsort(-expected)[: 0 if position < len(prompt) else 3]
        assert [token for token, _ in entry.top] == best.tolist()
        assert [value for _, value in entry.top] == pytest.approx(expected[best].tolist(), abs=1e-5)


def test_no_logprobs_are_computed_unless_asked_for(engine: EngineCore, runner: FakeRunner) -> None:
    request, _ = submit(engine, [1, 2, 3, 4, 5], max_new_tokens=3)
    drive(engine, request)
    assert (request.logprobs, request.prompt_logprobs) == ([], [])
    assert [keep for *_, keep in runner.runs("prefill")] == [0, 1]


def test_tokens_that_did_not_fit_have_no_logprobs(engine: EngineCore) -> None:
    request, _ = submit(engine, [2] * (LIMIT + 3), max_new_tokens=1, prompt_logprobs=0, overflow="truncate_left")
    drive(engine, request)
    assert [entry is None for entry in request.prompt_logprobs] == [True] * 4 + [False] * (LIMIT - 1)


# Guidance


def guided_text(prompt: list[int], negative: list[int], scale: float, count: int) -> list[int]:
    text: list[int] = []
    for _ in range(count):
        text.append(int(np.argmax(guided(logits_of(prompt + text), logits_of(negative + text), scale))))
    return text


@pytest.mark.parametrize(("negative", "expected"), [(None, [2]), ([7, 8, 9, 1, 3], [7, 8, 9, 1, 3])])
def test_guidance_follows_two_prompts_in_step(
    engine: EngineCore, negative: list[int] | None, expected: list[int]
) -> None:
    beside, _ = submit(engine, [5], max_new_tokens=15)
    ids = None if negative is None else np.array(negative)
    request, sink = submit(engine, [1, 2], max_new_tokens=9, guidance_scale=2.5, negative_ids=ids)
    drive(engine, request, beside)
    assert request.token_ids == guided_text([1, 2], expected, 2.5, 9)
    assert sink.reason == "length"


def test_a_long_negative_prompt_counts_for_the_context(engine: EngineCore) -> None:
    long = np.ones(LIMIT - 2, np.int64)
    with pytest.raises(PromptError, match="the negative prompt has 30 tokens and max_new_tokens is 9"):
        submit(engine, [1, 2], max_new_tokens=9, guidance_scale=2.5, negative_ids=long)
    request, _ = submit(
        engine, [1, 2], max_new_tokens=9, guidance_scale=2.5, negative_ids=long, overflow="truncate_left"
    )
    drive(engine, request)
    assert len(request.token_ids) == 9


def test_guidance_needs_two_slots() -> None:
    with pytest.raises(ConfigError, match=r"guidance_scale is 2\.0, which needs 2 sequences at once; max_batch_size"):
        submit(EngineCore(FakeRunner(max_batch_size=1)), [1], max_new_tokens=3, guidance_scale=2)


def test_log_probabilities_are_those_in_double_precision() -> None:
    logits = np.random.default_rng(0).normal(0, 9, 5000).astype(np.float32)
    assert np.abs(log_probabilities(logits) - log_softmax(logits)).max() < 1e-5
