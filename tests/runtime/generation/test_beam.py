"""Beam search in numbers: which candidates are drawn how often, and the largest of an array."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neort import ConfigError, GenerationConfig
from neort.generation import BeamSearch, Candidate, log_probabilities
from neort.generation.largest import largest


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 7, 100, 2048, 5000]),
    st.integers(0, 40),
    st.sampled_from([3, 999]),
)
def test_the_largest_are_those_of_a_stable_sort(seed: int, size: int, count: int, values: int) -> None:
    """Also where many are equal, or -inf."""
    rng = np.random.default_rng(seed)
    entries = rng.integers(0, values, size).astype(np.float32)
    entries[rng.random(size) < rng.random()] = -np.inf
    assert largest(entries, count).tolist() == np.argsort(-entries, kind="stable")[:count].tolist()


def search(**options: Any) -> BeamSearch[str]:
    config = GenerationConfig(**{"num_beams": 2, "max_new_tokens": 9, **options})
    return BeamSearch(config, np.random.default_rng(5) if config.do_sample else None)


def test_candidates_are_drawn_without_replacement_as_torchs_multinomial_draws_them() -> None:
    """The chi-squared of 4,000 draws of an unordered four of six exceeds 37.7 with a probability of 0.001."""
    probabilities = np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
    fours: list[tuple[int, ...]] = list(itertools.combinations(range(6), 4))
    expected = dict.fromkeys(fours, 0.0)
    for order in itertools.permutations(range(6), 4):
        rest, chance = 1.0, 1.0
        for token in order:
            chance *= probabilities[token] / rest
            rest -= probabilities[token]
        expected[tuple(sorted(order))] += chance
    beams, count = search(do_sample=True), 4000
    scores = np.log(probabilities).astype(np.float32)[None]
    drawn = dict.fromkeys(fours, 0)
    for _ in range(count):
        candidates = beams.candidates(scores)
        assert [each.score for each in candidates] == sorted((each.score for each in candidates), reverse=True)
        drawn[tuple(sorted(each.token_id for each in candidates))] += 1
    chi = sum((drawn[four] - count * chance) ** 2 / (count * chance) for four, chance in expected.items())
    assert chi < 37.7


@pytest.mark.parametrize("early_stopping", [False, "never"])
@pytest.mark.parametrize("penalty", [-10.0, 10.0])
def test_any_length_and_penalty_give_a_score(penalty: float, early_stopping: Any) -> None:
    beams = search(length_penalty=penalty, early_stopping=early_stopping, max_new_tokens=10**50)
    beams.advance([Candidate(0, 1, np.float32(-3.0))])
    beams.finish("long", np.float32(-3.0), 10**6)
    beams.finish("short", np.float32(-3.0), 1)
    assert beams.over in (True, False)
    assert [each.item for each in beams.finished] == (["long", "short"] if penalty > 0 else ["short", "long"])


def test_a_score_below_the_smallest_number_is_ruled_out() -> None:
    beams, lowest = search(), np.finfo(np.float32).min
    beams.advance([Candidate(0, 1, lowest)])
    assert beams.candidates(np.array([[lowest, -1.0]], np.float32)) == [Candidate(0, 1, lowest)]


def test_tokens_that_are_ruled_out_are_never_drawn() -> None:
    scores = np.array([[-np.inf, -1.0, -np.inf, -90.0]], np.float32)
    assert [each.token_id for each in search(do_sample=True).candidates(scores)] == [1, 3]


@pytest.mark.parametrize(
    ("options", "over"),
    [
        ({}, True),  # -1.0 / 4 is below -0.4 / 2
        ({"early_stopping": "never"}, False),  # at 9 tokens it could be -1.0 / 9
        ({"early_stopping": "never", "length_penalty": 0.0}, True),
        ({"length_penalty": -1.0}, True),
        ({"early_stopping": True, "length_penalty": 9.0}, True),
    ],
    ids=str,
)
def test_a_search_is_over_when_beams_cannot_become_better(options: dict[str, Any], over: bool) -> None:
    beams = search(**options)
    for score in (-0.3, -0.4):
        beams.finish("text", np.float32(score), 2)
    for score in (-0.5, -0.8, -0.9, -1.0):
        beams.advance([Candidate(0, 1, np.float32(score))])
    assert beams.over is over


def test_the_best_hypotheses_are_kept_by_their_score_per_length() -> None:
    beams = search()
    for item, score, length in (("a", -4.0, 2), ("b", -3.0, 3), ("c", -1.5, 1), ("d", -3.0, 2)):
        beams.finish(item, np.float32(score), length)
    assert [(each.item, float(each.score)) for each in beams.finished] == [("b", -1.0), ("c", -1.5)]


def test_log_probabilities_leave_what_is_ruled_out() -> None:
    assert log_probabilities(np.array([0, -np.inf, 0], np.float32)).tolist() == pytest.approx(
        [-np.log(2), -np.inf, -np.log(2)]
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_beams": 0}, "num_beams=0 must be at least 1"),
        ({"length_penalty": 2.0}, "length_penalty=2.0 has no effect with num_beams=1"),
        ({"num_beams": 2, "length_penalty": 1000}, "length_penalty=1000 must lie between -10 and 10"),
        ({"early_stopping": True}, "early_stopping=True has no effect with num_beams=1"),
        ({"num_beams": 2, "early_stopping": "soon"}, 'use True, False or "never"'),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3 exceeds num_beams=2"),
        ({"num_beams": 2, "guidance_scale": 2}, "do not go together"),
        ({"guidance_scale": -1}, "between 0 and 1000"),
        ({"logprobs": 21}, "logprobs=21 must be at most 20"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        GenerationConfig(**options)


def test_options_of_beams_go_with_the_beams() -> None:
    config = GenerationConfig(num_beams=3, length_penalty=2.0, early_stopping=True, num_return_sequences=2)
    assert config.replace(num_beams=1, num_return_sequences=1) == GenerationConfig()


@pytest.mark.filterwarnings("ignore:generation_config.json")
@pytest.mark.parametrize(
    ("file", "kept"),
    [
        ({"length_penalty": 2.0, "early_stopping": True}, {}),
        ({"num_beams": 4, "early_stopping": 1}, {"num_beams": 4, "early_stopping": True}),
        ({"num_beams": 4, "guidance_scale": 2.0}, {"num_beams": 4}),
        ({"num_beams": -1, "length_penalty": 2.0}, {}),
        ({"num_beams": 4.0, "length_penalty": 1}, {"num_beams": 4}),
    ],
    ids=str,
)
def test_a_files_options_of_beams_are_taken_as_far_as_they_mean_something(
    file: dict[str, object], kept: dict[str, Any]
) -> None:
    assert GenerationConfig.from_hf(file) == GenerationConfig(**kept)
