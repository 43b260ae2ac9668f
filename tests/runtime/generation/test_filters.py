"""Filters against their definitions, what they leave in any case, and how often XTC excludes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neort.arrays import Logits
from neort.generation import (
    GenerationConfig,
    LogitsProcessor,
    TokenChooser,
    build_processors,
    make_generator,
    processors,
    softmax,
)

INF = math.inf
NO_IDS = np.zeros(0, np.int64)


def logits(*values: float) -> Logits:
    return np.array(values, np.float32)


def xtc(probability: float, threshold: float, seed: int = 0) -> processors.Xtc:
    return processors.Xtc(probability, threshold, make_generator(seed))


FILTERS: dict[str, processors.Filter] = {
    "top_k": processors.TopK(3),
    "top_p": processors.TopP(0.6),
    "min_p": processors.MinP(0.3),
    "top_h": processors.TopH(0.4),
    "typical_p": processors.TypicalP(0.5),
    "epsilon_cutoff": processors.EpsilonCutoff(0.2),
    "eta_cutoff": processors.EtaCutoff(0.2),
    "top_n_sigma": processors.TopNSigma(0.7),
    "xtc": xtc(1.0, 0.1),
}
values = st.floats(-50, 50, width=32) | st.integers(-3, 3).map(float) | st.just(-INF)
rows = arrays(np.float32, st.integers(2, 40), elements=values).filter(lambda x: x.max() > -INF)


@pytest.mark.parametrize("name", FILTERS)
@given(x=rows)
@settings(max_examples=25)
def test_a_filter_leaves_a_token_and_changes_no_logit_that_it_leaves(name: str, x: Logits) -> None:
    x.setflags(write=False)
    filtered = FILTERS[name](NO_IDS, x)
    assert filtered.dtype == np.float32
    assert filtered.max() > -INF
    assert ((filtered == x) | (filtered == -INF)).all()
    if name not in ("xtc", "typical_p"):
        assert filtered.max() == x.max()


@given(x=rows, chosen=st.lists(st.sampled_from([name for name in FILTERS if name != "xtc"])))
@settings(max_examples=25)
def test_filters_together_leave_what_they_leave_one_after_the_other(x: Logits, chosen: list[str]) -> None:
    expected = x
    for name in chosen:
        expected = FILTERS[name](NO_IDS, expected)
    together = processors.Filters([FILTERS[name] for name in chosen])(NO_IDS, x)
    kept = together > -INF
    if not (kept == (expected > -INF)).all():  # sums of other lengths round differently at a cut
        np.testing.assert_allclose(softmax(together)[kept].sum(), softmax(expected)[kept].sum(), atol=1e-5)


@pytest.mark.parametrize("largest", [-INF, INF, math.nan])
@pytest.mark.parametrize("name", [*FILTERS, "together", "renormalize"])
def test_where_there_is_nothing_to_choose_from_it_is_left_to_the_draw_to_say_so(name: str, largest: float) -> None:
    """Without a warning of numpy's."""
    all_of_them: dict[str, LogitsProcessor] = {
        **FILTERS,
        "together": processors.Filters([*FILTERS.values()]),
        "renormalize": processors.Renormalize(),
    }
    x = logits(-INF, largest, -INF, -INF)
    assert all_of_them[name](NO_IDS, x) is x


def test_min_p_keeps_what_is_not_much_less_probable_than_the_best() -> None:
    x = np.log(logits(0.5, 0.2, 0.25, 0.05))
    np.testing.assert_array_equal(processors.MinP(0.45)(NO_IDS, x) > -INF, [True, False, True, False])


def test_epsilon_cutoff_keeps_the_best_token_in_any_case() -> None:
    x = np.log(logits(0.3, 0.4, 0.3))
    np.testing.assert_array_equal(processors.EpsilonCutoff(0.9)(NO_IDS, x) > -INF, [False, True, False])


def test_typical_p_may_leave_out_the_most_probable_token() -> None:
    x = np.log(logits(0.4, *[0.1] * 6))
    kept = processors.TypicalP(0.3)(NO_IDS, x) > -INF
    assert not kept[0]
    assert kept[1:].all()


@given(x=rows, n=st.floats(0.1, 4))
@settings(max_examples=25)
def test_top_n_sigma_keeps_what_lies_near_the_largest_logit(x: Logits, n: float) -> None:
    possible = [float(value) for value in x if value > -INF]
    mean = sum(possible) / len(possible)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in possible) / len(possible))
    limit = max(possible) - n * deviation
    filtered = processors.TopNSigma(n)(NO_IDS, x)
    for value, kept in zip(x.tolist(), (filtered > -INF).tolist(), strict=True):
        assert kept == (value >= limit) or abs(value - limit) < 1e-3


@given(x=rows, threshold=st.floats(0.01, 0.5))
@settings(max_examples=25)
def test_xtc_excludes_all_tokens_above_the_threshold_but_the_last(x: Logits, threshold: float) -> None:
    probabilities = softmax(x)
    order = sorted(range(len(x)), key=lambda token: (-x[token], token))
    above = [token for token in order if probabilities[token] >= threshold]
    if any(abs(p - threshold) < 1e-5 for p in probabilities):
        return
    filtered = xtc(1.0, threshold)(NO_IDS, x)
    excluded = set(above[:-1])
    np.testing.assert_array_equal(filtered, [-INF if i in excluded else value for i, value in enumerate(x)])


def test_xtc_excludes_as_often_as_its_probability_says() -> None:
    """10,000 draws at 0.3: a deviation of more than 0.02, 4.4 standard errors, has probability 1e-5."""
    each = xtc(0.3, 0.1, seed=5)
    x = np.log(logits(0.6, 0.4))
    share = np.mean([each(NO_IDS, x)[0] == -INF for _ in range(10_000)])
    assert abs(share - 0.3) < 0.02


def test_xtc_beyond_one_half_excludes_nothing() -> None:
    config = GenerationConfig(do_sample=True, top_k=0, xtc_probability=1.0, xtc_threshold=0.6)
    assert build_processors(config, 1) == []


def test_xtc_has_a_stream_of_its_own_that_the_seed_decides() -> None:
    config = GenerationConfig(do_sample=True, seed=3, xtc_probability=0.5)
    x = np.log(logits(0.5, 0.3, 0.2))

    def outcomes(index: int) -> list[int]:
        chooser = TokenChooser.from_config(config, 1, index)
        return [chooser.choose(NO_IDS, x) for _ in range(40)]

    assert outcomes(0) == outcomes(0) != outcomes(1)
    fork = TokenChooser.from_config(config, 1, 0).fork()
    assert [fork.choose(NO_IDS, x) for _ in range(40)] == outcomes(0)


def test_tokens_come_as_often_as_the_filtered_probabilities_say() -> None:
    """Chi-square of 4,000 draws over the tokens that are left; beyond the limit with a probability of 1e-4."""
    config = GenerationConfig(do_sample=True, seed=1, temperature=1.3, top_k=6, min_p=0.05)
    x = np.log(logits(0.3, 0.2, 0.15, 0.15, 0.1, 0.05, 0.03, 0.02))
    filtered = x
    for processor in build_processors(config, 0):
        filtered = processor(NO_IDS, filtered)
    expected = 4000 * softmax(filtered)
    chooser = TokenChooser.from_config(config, 0)
    counts = np.bincount([chooser.choose(NO_IDS, x) for _ in range(4000)], minlength=8)
    left = expected > 0
    assert counts[~left].sum() == 0
    limits = {5: 25.7, 4: 23.5}  # of chi-square by degrees of freedom
    assert ((counts - expected)[left] ** 2 / expected[left]).sum() < limits[int(left.sum()) - 1]


@pytest.mark.parametrize(
    "options",
    [{"renormalize_logits": True}, {}],
)
def test_greedy_decoding_does_without_what_cannot_change_its_choice(options: dict[str, Any]) -> None:
    config = GenerationConfig(**options)
    assert len(build_processors(config, 1)) == len(options)
    assert TokenChooser.from_config(config, 1).processors == []


def test_a_processor_may_say_that_it_changes_no_argmax() -> None:
    class Half:
        changes_argmax = False

        def __call__(self, ids: Any, logits: Logits) -> Logits:
            return logits / np.float32(2)

    assert TokenChooser.from_config(GenerationConfig(), 1, processors=[Half()]).processors == []
    assert len(TokenChooser.from_config(GenerationConfig(do_sample=True, top_k=0), 1, processors=[Half()]).processors)
    assert len(TokenChooser.from_config(GenerationConfig(), 1, processors=[lambda ids, logits: logits]).processors) == 1
