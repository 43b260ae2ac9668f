"""Logits processors, with four numbers, and in the order in which a configuration asks for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neort.arrays import Ids, Logits
from neort.generation import GenerationConfig, processors

INF = math.inf
NO_IDS = np.zeros(0, np.int64)


def logits(*values: float) -> Logits:
    return np.array(values, np.float32)


def ids(*values: int) -> Ids:
    return np.array(values, np.int64)


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits_once() -> None:
    processed = processors.RepetitionPenalty(2.0)(ids(0, 1, 1, 0, 3), logits(3, -3, 5, 0))
    np.testing.assert_array_equal(processed, logits(1.5, -6, 5, 0))


def test_min_length_counts_prompt_and_text() -> None:
    processor = processors.MinLength((1,), 3)
    np.testing.assert_array_equal(processor(ids(7, 7), logits(1, 2, 3)), logits(1, -INF, 3))
    np.testing.assert_array_equal(processor(ids(7, 7, 7), logits(1, 2, 3)), logits(1, 2, 3))


def test_min_new_tokens_counts_from_the_end_of_the_prompt() -> None:
    processor = processors.MinLength((0, 2), 2 + 2)
    np.testing.assert_array_equal(processor(ids(7, 7, 7), logits(1, 2, 3)), logits(-INF, 2, -INF))
    np.testing.assert_array_equal(processor(ids(7, 7, 7, 7), logits(1, 2, 3)), logits(1, 2, 3))


def test_end_of_text_ids_outside_the_vocabulary_are_ignored() -> None:
    np.testing.assert_array_equal(processors.MinLength((1, 3), 9)(ids(7), logits(1, 2, 3)), logits(1, -INF, 3))


def test_temperature_divides() -> None:
    np.testing.assert_array_equal(processors.Temperature(0.5)(NO_IDS, logits(1, -INF, 3)), logits(2, -INF, 6))


def test_top_k_keeps_every_tie_at_the_last_place() -> None:
    processed = processors.TopK(2)(NO_IDS, logits(1, 3, 2, 2, 0))
    np.testing.assert_array_equal(processed, logits(-INF, 3, 2, 2, -INF))


def test_top_k_larger_than_the_vocabulary_keeps_all() -> None:
    np.testing.assert_array_equal(processors.TopK(9)(NO_IDS, logits(1, 3, 2)), logits(1, 3, 2))


@pytest.mark.parametrize("size", [1, 5, 1023, 1024, 2047, 2048, 3100, 5000])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_top_k_finds_the_kth_largest_at_any_size(size: int, levels: int) -> None:
    x = np.random.default_rng(size).integers(0, levels, size).astype(np.float32)
    for k in {k for k in (1, 2, 50, size - 1, size) if 0 < k <= size}:
        kept = processors.TopK(k)(NO_IDS, x) > -INF
        np.testing.assert_array_equal(kept, x >= np.sort(x)[-k])


def test_top_p_keeps_the_fewest_tokens_that_reach_p() -> None:
    x = np.log(logits(0.5, 0.1, 0.3, 0.1))
    for p, survivors in [(0.4, [0]), (0.7, [0, 2]), (0.85, [0, 2, 3]), (0.95, [0, 1, 2, 3])]:
        assert list(np.flatnonzero(processors.TopP(p)(NO_IDS, x) > -INF)) == survivors


def test_top_p_of_zero_keeps_one_token_and_of_equal_ones_the_last() -> None:
    np.testing.assert_array_equal(processors.TopP(0.0)(NO_IDS, logits(2, 1, 2)), logits(-INF, -INF, 2))


def test_top_p_of_one_keeps_every_token_that_can_occur() -> None:
    np.testing.assert_array_equal(processors.TopP(1.0)(NO_IDS, logits(2, -INF, 1)), logits(2, -INF, 1))


PROCESSORS: dict[str, processors.LogitsProcessor] = {
    "repetition_penalty": processors.RepetitionPenalty(1.3),
    "min_length": processors.MinLength((1,), 99),
    "min_new_tokens": processors.MinLength((1,), 1 + 99),
    "temperature": processors.Temperature(0.7),
    "top_k": processors.TopK(3),
    "top_p": processors.TopP(0.6),
}


@pytest.mark.parametrize("name", PROCESSORS)
@given(x=arrays(np.float32, st.integers(4, 40), elements=st.floats(-50, 50, width=32)))
@settings(max_examples=25)
def test_a_processor_leaves_its_input_alone_and_keeps_dtype_and_shape(name: str, x: Logits) -> None:
    x.setflags(write=False)
    processed = PROCESSORS[name](ids(0, 1, 2), x)
    assert processed.dtype == np.float32
    assert processed.shape == x.shape
    assert np.isfinite(processed.max())


# The pipeline


def names(config: GenerationConfig, vocab_size: int | None = None) -> list[str]:
    chain = processors.build_processors(config, 4, vocab_size)
    return [type(each).__name__ for p in chain for each in (p.filters if isinstance(p, processors.Filters) else [p])]


def test_greedy_decoding_needs_no_processor() -> None:
    assert names(GenerationConfig(eos_token_id=3, temperature=1.0, repetition_penalty=1.0, min_length=0)) == []


def test_processors_come_in_the_order_of_transformers() -> None:
    config = GenerationConfig(
        do_sample=True,
        top_p=0.9,
        top_k=5,
        temperature=0.5,
        min_new_tokens=2,
        repetition_penalty=2,
        eos_token_id=1,
    )
    assert names(config) == ["RepetitionPenalty", "MinLength", "Temperature", "TopK", "TopP"]


def test_neutral_sampling_options_add_no_processor() -> None:
    assert names(GenerationConfig(do_sample=True, temperature=1.0, top_k=0, top_p=1.0)) == []


@pytest.mark.parametrize("eos", [None, 100])
def test_a_minimum_length_without_an_end_of_text_token_adds_no_processor(eos: int | None) -> None:
    assert names(GenerationConfig(min_length=9, eos_token_id=eos), vocab_size=100) == []
    assert names(GenerationConfig(min_new_tokens=9, eos_token_id=eos), vocab_size=100) == []


def test_top_k_of_the_whole_vocabulary_adds_no_processor() -> None:
    assert names(GenerationConfig(do_sample=True), vocab_size=50) == []
    assert names(GenerationConfig(do_sample=True), vocab_size=51) == ["TopK"]


def test_min_new_tokens_takes_precedence_over_min_length() -> None:
    config = GenerationConfig(min_length=20, min_new_tokens=1, eos_token_id=0)
    (processor,) = processors.build_processors(config, 2, None)
    np.testing.assert_array_equal(processor(ids(5, 5, 5), logits(1, 2)), logits(1, 2))
