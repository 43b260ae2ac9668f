"""Who chooses a sequence's tokens: with which processors, which random stream, and what a copy shares with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neort.arrays import AnyArray, Ids, Logits
from neort.errors import ArgumentTypeError, ConfigError, LogitsError
from neort.generation import GenerationConfig, TokenChooser, make_generator, own_processors, sample
from neort.generation.largest import promising

LOGITS = np.linspace(0, 2, 8, dtype=np.float32)
IDS = np.arange(3)


class Alternating:
    """A processor with a state: rules out odd and even tokens in turns."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, ids: Ids, logits: Logits) -> Logits:
        self.calls += 1
        out = logits.copy()
        out[self.calls % 2 :: 2] = -np.inf
        return out


class Locked(Alternating):
    """A processor that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class LockedThatKnowsHow(Locked):
    def __deepcopy__(self, memo: dict[int, Any]) -> LockedThatKnowsHow:
        copied = LockedThatKnowsHow()
        copied.calls = self.calls
        return copied


def generator(seed: int | None) -> np.random.Generator | None:
    """None is greedy."""
    return None if seed is None else make_generator(seed)


def choices(chooser: TokenChooser, count: int) -> list[int]:
    return [chooser.choose(IDS, LOGITS) for _ in range(count)]


def test_without_a_generator_the_largest_logit_is_chosen() -> None:
    assert TokenChooser().choose(IDS, LOGITS) == 7


def test_with_a_generator_tokens_are_drawn_from_its_stream() -> None:
    stream = make_generator(1)
    assert choices(TokenChooser((), make_generator(1)), 20) == [sample(LOGITS, stream) for _ in range(20)]


def test_a_config_gives_each_return_sequence_a_stream_of_its_own() -> None:
    config = GenerationConfig(do_sample=True, seed=1)
    texts = [choices(TokenChooser.from_config(config, 3, index), 20) for index in (0, 1, 0)]
    assert texts[0] == texts[2] != texts[1]


def test_a_greedy_config_draws_nothing() -> None:
    assert TokenChooser.from_config(GenerationConfig(), 3).generator is None


def test_processors_see_the_ids_and_change_the_choice() -> None:
    seen: list[list[int]] = []

    def note(ids: Ids, logits: Logits) -> Logits:
        seen.append(ids.tolist())
        return logits

    assert choices(TokenChooser([note, Alternating()]), 3) == [6, 7, 6]
    assert seen == [[0, 1, 2]] * 3


def test_further_processors_come_before_those_that_narrow_the_choice() -> None:
    config = GenerationConfig(do_sample=True, top_k=1, seed=0)
    chooser = TokenChooser.from_config(config, 3, processors=[Alternating()])
    assert choices(chooser, 3) == [6, 7, 6]


def test_own_processors_come_after_those_of_greedy_decoding() -> None:
    seen: list[Logits] = []

    def note(ids: Ids, logits: Logits) -> Logits:
        seen.append(logits)
        return logits

    chooser = TokenChooser.from_config(GenerationConfig(repetition_penalty=2.0), 3, processors=[note])
    chooser.choose(IDS, LOGITS)
    assert seen[0][:3].tolist() == (LOGITS[:3] / 2).tolist()


def test_an_own_processor_may_write_into_what_it_is_given() -> None:
    def spoil(ids: Ids, logits: Logits) -> Logits:
        ids[:] = 0
        logits[7] = -np.inf
        return logits

    ids, logits = IDS.copy(), LOGITS.copy()
    assert TokenChooser.from_config(GenerationConfig(), 3, processors=[spoil]).choose(ids, logits) == 6
    assert ids.tolist() == IDS.tolist()
    assert logits.tolist() == LOGITS.tolist()


@pytest.mark.parametrize("returned", [None, LOGITS[:-1], LOGITS[None], LOGITS.tolist(), np.arange(8)])
def test_what_an_own_processor_returns_is_checked(returned: Any) -> None:
    chooser = TokenChooser.from_config(GenerationConfig(), 3, processors=[lambda ids, logits: returned])
    with pytest.raises(LogitsError, match=r"must return floats of shape \(8,\)"):
        chooser.choose(IDS, LOGITS)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_fork_chooses_what_the_original_would_and_changes_nothing_about_it(seed: int | None, before: int) -> None:
    chooser = TokenChooser([Alternating()], generator(seed))
    choices(chooser, before)
    forks = [chooser.fork(), chooser.fork()]
    first, second = (choices(fork, 9) for fork in forks)
    assert first == second == choices(chooser, 9)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_fork_tells_which_processor_cannot_be_copied_and_what_helps(wrapped: bool) -> None:
    config = GenerationConfig()
    chooser = TokenChooser.from_config(config, 3, processors=[Locked()]) if wrapped else TokenChooser([Locked()])
    with pytest.raises(ConfigError, match=r"test_chooser.Locked object .* cannot be copied .*lock.*__deepcopy__"):
        chooser.fork()


def test_a_fork_of_a_processor_with_its_own_way_of_copying_chooses_alike() -> None:
    chooser = TokenChooser.from_config(GenerationConfig(), 3, processors=[LockedThatKnowsHow()])
    choices(chooser, 3)
    assert choices(chooser.fork(), 5) == choices(chooser, 5)


def test_processors_that_share_an_object_share_its_copy() -> None:
    shared = Alternating()
    for first, second in (TokenChooser([shared, shared]).fork().processors, own_processors([shared] * 2, first=False)):
        assert first is second
        assert first is not shared


# The caller's own


def test_the_first_sequence_gets_the_callers_objects_and_further_ones_get_copies() -> None:
    mine = Alternating()
    mine.calls = 3
    assert own_processors((mine,), first=True) == [mine]
    (copied,) = own_processors((mine,), first=False)
    assert isinstance(copied, Alternating)
    assert copied is not mine
    assert copied.calls == 3


def test_what_cannot_be_copied_serves_one_sequence() -> None:
    mine = Locked()
    assert own_processors([mine], first=True) == [mine]
    with pytest.raises(ConfigError, match=r"Locked object .* cannot be copied .*several sequences or drafts"):
        own_processors([mine], first=False)


def test_the_callers_list_is_not_the_sequences_own() -> None:
    mine: list[Any] = [Alternating()]
    own_processors(mine, first=True).clear()
    assert len(mine) == 1


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("nothing", [None, [], ()])
def test_none_is_no_processor(nothing: Any, first: bool) -> None:
    assert own_processors(nothing, first=first) == []


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("given", [Alternating(), lambda ids, logits: logits, "top_k", 3, iter([]), {Alternating()}])
def test_what_is_no_list_of_processors_is_refused(given: Any, first: bool) -> None:
    with pytest.raises(ArgumentTypeError, match=r"logits_processor is .*; it takes a list of functions"):
        own_processors(given, first=first)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("held", ["top_k", None, 3])
def test_what_cannot_be_called_is_refused(held: Any, first: bool) -> None:
    with pytest.raises(ArgumentTypeError, match=r"logits_processor holds .*; .*neort.LogitsProcessor"):
        own_processors([Alternating(), held], first=first)


def test_a_fork_of_a_subclass_is_one_too() -> None:
    class Fixed(TokenChooser):
        def choose(self, ids: Ids, logits: Logits) -> int:
            return 5

    assert Fixed().fork().choose(IDS, LOGITS) == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_an_error_with_the_position(bad: float) -> None:
    with pytest.raises(LogitsError, match="logits at position 3"):
        TokenChooser().choose(IDS, np.full(8, bad, np.float32))


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_processors_that_leave_no_token_are_an_error(seed: int | None, bad: float) -> None:
    chooser = TokenChooser([lambda ids, logits: np.full_like(logits, bad)], generator(seed))
    with pytest.raises(LogitsError, match="Check the options that rule out tokens"):
        chooser.choose(IDS, LOGITS)


# What is drawn, of a few promising tokens, is what all of the vocabulary going through each processor gives


def spread(kind: str, size: int, rng: np.random.Generator) -> Logits:
    """Logits of several kinds, with ties that are there, or that a temperature makes."""
    normal = rng.standard_normal(size).astype(np.float32)
    halves = np.round(2 * normal) / 2
    kinds: dict[str, AnyArray] = {
        "usual": 5 * normal,
        "many equal": halves,
        "all equal": np.full_like(normal, 3.0),
        "equal once divided": np.float32(-7) * (1 - rng.integers(0, 5, size).astype(np.float32) * 2**-24),
        "few possible": np.where(rng.random(size) < 0.01, normal, -np.inf).astype(np.float32),
        "huge": np.float32(1e37) * halves,
        "tiny": np.float32(1e-44) * halves,
        "none possible": np.full_like(normal, -np.inf),
        "NaN": np.where(rng.random(size) < 0.001, np.nan, normal).astype(np.float32),
        "infinite": np.where(rng.random(size) < 0.001, np.inf, normal).astype(np.float32),
    }
    return kinds[kind].astype(np.float32)


def drawn_one_by_one(chooser: TokenChooser, ids: Ids, logits: Logits) -> int:
    assert chooser.generator is not None
    for processor in chooser.processors:
        logits = processor(ids, logits)
    return sample(logits, chooser.generator)


def drawn_or_refused(draw: Callable[[], int]) -> int | str:
    with np.errstate(invalid="ignore"):
        try:
            return draw()
        except LogitsError as error:
            return str(error)


@pytest.mark.parametrize(
    "kind",
    ["usual", "many equal", "all equal", "equal once divided", "few possible", "huge", "tiny", "none possible", "NaN",
     "infinite"],
)  # fmt: skip
@given(
    size=st.sampled_from([2048, 2049, 3000]),
    seed=st.integers(0, 2**32 - 1),
    temperature=st.sampled_from([None, 1e-5, 0.3, 0.8, 1.0, 1.7, 1e5]),
    top_k=st.sampled_from([0, 1, 50, 1024, 1025, 2999]),
    others=st.sampled_from(
        [{}, {"top_p": 0.9}, {"repetition_penalty": 1.3, "top_p": 0.5}, {"min_p": 0.1}, {"top_n_sigma": 2.0}]
    ),
)
@settings(max_examples=15)
def test_a_draw_is_the_one_after_each_processor_in_turn(
    kind: str, size: int, seed: int, temperature: float | None, top_k: int, others: dict[str, Any]
) -> None:
    rng = np.random.default_rng(seed)
    logits, ids = spread(kind, size, rng), rng.integers(0, size, 30)
    config = GenerationConfig(do_sample=True, seed=seed, temperature=temperature, top_k=top_k, **others)
    one, other = (TokenChooser.from_config(config, 10) for _ in range(2))
    one.repairs = True  # so that the processors see what they cannot be asked to cope with
    found = drawn_or_refused(lambda: one.choose(ids, logits))
    assert found == drawn_or_refused(lambda: drawn_one_by_one(other, ids, logits))
    assert one.generator is not None
    assert other.generator is not None
    assert one.generator.random() == other.generator.random()


def test_of_many_tokens_few_are_promising() -> None:
    logits = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    found = promising(logits, 50)
    assert found is not None
    assert len(found) < 100
    assert set(np.argsort(logits)[-50:]) <= set(found)
    assert (np.diff(found) > 0).all()
    assert promising(logits[:2000], 50) is None
