"""What ends a text beside its tokens: the caller's criteria, a limit of time, a limit that counts the prompt."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest

import neort
from fakes import CHUNK, FakeRunner, Sink, alone, drive, make
from neort.arrays import Ids
from neort.engine import EngineCore, Request
from neort.errors import ArgumentTypeError, ConfigError
from neort.generation import GenerationConfig, TokenChooser, own_criteria
from neort.generation.stopping import is_met


class After:
    """A criterion with a state: met at the n-th call."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.seen: list[list[int]] = []

    def __call__(self, ids: Ids) -> bool:
        self.seen.append(ids.tolist())
        ids[:] = 0
        return len(self.seen) >= self.calls


def stopping(*criteria: Any, new: int = 9, prompt: tuple[int, ...] = (1, 2)) -> tuple[Request, Sink]:
    chooser = TokenChooser.from_config(GenerationConfig(), len(prompt), criteria=criteria)
    return make(prompt, chooser=chooser, max_new_tokens=new)


def run(*requests: Request) -> None:
    engine = EngineCore(FakeRunner(), prefill_chunk=CHUNK)
    for request in requests:
        engine.submit(request)
    drive(engine, *requests)


def test_a_criterion_ends_a_text_with_the_token_at_which_it_is_met() -> None:
    criterion = After(3)
    request, sink = stopping(criterion)
    run(request)
    whole = alone([1, 2], max_new_tokens=9).token_ids
    assert (sink.token_ids, sink.reason) == (whole[:3], "stop")
    assert criterion.seen == [[1, 2, *whole[:count]] for count in (1, 2, 3)]


def test_every_criterion_is_asked_after_every_token() -> None:
    first, second = After(2), After(5)
    run(stopping(first, second)[0])
    assert len(first.seen) == len(second.seen) == 2


def test_what_a_criterion_raises_ends_its_request_alone() -> None:
    def broken(ids: Ids) -> bool:
        raise KeyError("broken")

    (bad, failed), (good, fine) = stopping(broken), stopping(new=4, prompt=(3, 4))
    run(bad, good)
    assert [str(error) for error in failed.errors] == ["'broken'"]
    assert len(fine.token_ids) == 4


@pytest.mark.parametrize("returned", [None, 1, np.array([True]), "yes"])
def test_a_criterion_that_returns_no_boolean_is_an_error(returned: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"returned .*; it must return True or False"):
        is_met([lambda ids: returned], np.arange(3))
    assert is_met([lambda ids: bool(len(ids))], np.arange(3))


def test_further_sequences_get_copies_of_a_criterion() -> None:
    mine = After(2)
    assert own_criteria([mine], first=True) == [mine]
    (copied,) = own_criteria([mine], first=False)
    assert copied is not mine
    assert own_criteria(None, first=False) == []
    with pytest.raises(ArgumentTypeError, match=r"stopping_criteria is .*; it takes a list of functions of ids"):
        own_criteria(mine, first=True)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=r"stopping_criteria holds 3; .*neort.StoppingCriterion"):
        own_criteria([3], first=True)  # type: ignore[list-item]


def test_a_limit_of_time_ends_a_text_after_the_token_that_passes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    late = alone([1, 2], max_new_tokens=30, max_time=5.0)
    assert 0 < len(late.token_ids) < 8
    assert late.reason == "length"
    assert len(alone([1, 2], max_new_tokens=20, max_time=1e6).token_ids) == 20


def test_a_length_that_counts_the_prompt() -> None:
    assert alone([1, 2, 3], max_length=8).token_ids == alone([1, 2, 3], max_new_tokens=5).token_ids
    with pytest.raises(ConfigError, match="max_length=3 counts the prompt, whose 3 tokens leave none"):
        make([1, 2, 3], max_length=3)


def test_of_two_lengths_the_one_that_a_call_gives_holds() -> None:
    both = GenerationConfig(max_length=8, max_new_tokens=5)
    assert (both.max_length, both.max_new_tokens) == (None, 5)
    assert GenerationConfig(max_length=8).replace(max_new_tokens=128).max_length is None
    assert both.replace(max_length=9) == GenerationConfig(max_length=9)
    assert GenerationConfig.from_hf({"max_length": 8, "max_new_tokens": 128}) == GenerationConfig()
    assert GenerationConfig.from_hf({"max_length": 8}) == GenerationConfig(max_length=8)
    assert GenerationConfig.from_hf({"max_length": 20}) == GenerationConfig()  # transformers 4 writes it unasked


def test_end_of_text_tokens_may_be_ignored() -> None:
    config = GenerationConfig(eos_token_id=3, ignore_eos=True, min_new_tokens=2)
    assert config.eos_token_ids == ()
    assert config.replace(ignore_eos=False).eos_token_ids == (3,)


@pytest.mark.parametrize("draft", [None, "prompt-lookup"])
def test_criteria_and_allowed_tokens_hold_in_batches_streams_and_drafts(bundle_path: Any, draft: str | None) -> None:
    model = neort.load(bundle_path, draft=draft, num_threads=1)
    text = "The cat and the cat and the cat and the cat"
    plain = model.generate(text, max_new_tokens=24).token_ids
    criterion = After(7)
    one = model.generate(text, max_new_tokens=24, stopping_criteria=[criterion])
    assert (one.token_ids, one.finish_reason) == (plain[:7], "stop")
    assert len(criterion.seen) == 7
    both = model.generate([text, text], max_new_tokens=24, stopping_criteria=[After(5)])
    assert [out.token_ids for out in both] == [plain[:5]] * 2
    streamed = list(model.stream(text, max_new_tokens=24, stopping_criteria=[After(5)]))
    assert tuple(token for piece in streamed for token in piece.token_ids) == plain[:5]

    numbers: list[int] = []

    def allowed(prompt: int, ids: Ids) -> list[int]:
        numbers.append(prompt)
        return [40, 41, 42]

    outs = model.generate([text, "A"], max_new_tokens=3, prefix_allowed_tokens_fn=allowed)
    assert {token for out in outs for token in out.token_ids} <= {40, 41, 42}
    assert set(numbers) == {0, 1}
    with pytest.raises(ArgumentTypeError, match="prefix_allowed_tokens_fn is 3; it takes a function"):
        model.generate(text, prefix_allowed_tokens_fn=3)  # type: ignore[call-overload]


def test_logits_that_are_no_numbers_are_taken_where_they_are_to_be_repaired() -> None:
    config = GenerationConfig(remove_invalid_values=True)
    chooser = TokenChooser.from_config(config, 1)
    assert chooser.choose(np.arange(1), np.array([-1, np.nan, -2, -np.inf], np.float32)) == 1
