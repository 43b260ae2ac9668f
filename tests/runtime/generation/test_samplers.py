"""Probabilities, samplers and the random streams that they draw from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neort.arrays import Logits
from neort.errors import LogitsError
from neort.generation import samplers

INF = math.inf


def logits(*values: float) -> Logits:
    return np.array(values, np.float32)


def fixed_draw(draw: float) -> np.random.Generator:
    """A generator whose uniform draw is chosen by the test."""

    class Fixed(np.random.Generator):
        def random(self, *_: Any, **__: Any) -> Any:
            return draw

    return Fixed(np.random.PCG64())


ROWS = arrays(np.float32, (2, 7), elements=st.floats(-100, 100, width=32))


@given(ROWS)
def test_softmax_sums_to_one_and_agrees_with_log_softmax(x: Logits) -> None:
    probabilities = samplers.softmax(x)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.log(probabilities), samplers.log_softmax(x), rtol=1e-9, atol=1e-12)


def test_softmax_takes_extreme_and_excluded_logits() -> None:
    np.testing.assert_array_equal(samplers.softmax(logits(3e38, -3e38, -INF, 3e38)), [0.5, 0, 0, 0.5])
    np.testing.assert_allclose(samplers.log_softmax(logits(1000, 0, -INF)), [0, -1000, -INF])


@pytest.mark.parametrize(
    "function", [samplers.softmax, samplers.log_softmax, lambda x: samplers.sample(x, fixed_draw(0.5))]
)
@pytest.mark.parametrize("x", [logits(1, math.nan), logits(1, INF), logits(-INF, -INF)])
def test_logits_without_probabilities_are_an_error(function: Callable[..., Any], x: Logits) -> None:
    with pytest.raises(LogitsError, match=r"no probabilities follow .* `neort verify`"):
        function(x)


def test_greedy_takes_the_first_of_equal_logits() -> None:
    assert samplers.greedy(logits(-INF, 2, 3, 3)) == 2


@pytest.mark.parametrize("draw", [0.0, 5e-324, 0.5, math.nextafter(1.0, 0.0), 1.0])
@given(x=arrays(np.float32, st.integers(1, 12), elements=st.sampled_from([-INF, -900, -40, -1, 0, 1, 40])))
def test_sample_never_draws_a_token_of_probability_zero(draw: float, x: Logits) -> None:
    x[len(x) // 2] = 1.0
    assert samplers.softmax(x)[samplers.sample(x, fixed_draw(draw))] > 0


def test_sample_inverts_the_cumulative_distribution() -> None:
    x = np.log(logits(0.25, 0.5, 0.25))
    drawn = [samplers.sample(x, fixed_draw(u)) for u in (0.0, 0.24, 0.26, 0.74, 0.76, 0.999)]
    assert drawn == [0, 0, 1, 1, 2, 2]


def test_sample_follows_the_softmax() -> None:
    """Pearson's chi-square over 9 tokens and 20,000 draws, with 8 degrees of freedom.

    A right sampler fails with probability 1e-6 for a random seed; with the seed below it passes always. The
    tail of chi-square with an even number 2m of degrees of freedom is exp(-x/2) * sum over i < m of (x/2)^i / i!.
    """
    x = logits(0, 1, 2, -1, -INF, 0.5, 0.5, 1.5, -2, 3)
    rng = samplers.make_generator(1)
    n = 20_000
    counts = np.bincount([samplers.sample(x, rng) for _ in range(n)], minlength=10)
    assert counts[4] == 0
    expected = np.delete(n * samplers.softmax(x), 4)
    half = float(((np.delete(counts, 4) - expected) ** 2 / expected).sum()) / 2
    tail = math.exp(-half) * sum(half**i / math.factorial(i) for i in range(4))
    assert tail > 1e-6


def test_sample_consumes_one_draw() -> None:
    one, two = samplers.make_generator(5), samplers.make_generator(5)
    samplers.sample(logits(1, 2, 3), one)
    two.random()
    assert one.random() == two.random()


def test_a_stream_depends_on_seed_and_index_only() -> None:
    first = {(s, i): samplers.make_generator(s, i).random() for s, i in itertools.product((0, 1, 2**70), range(4))}
    assert len(set(first.values())) == len(first)
    assert all(samplers.make_generator(s, i).random() == value for (s, i), value in reversed(first.items()))


def test_the_stream_of_a_seed_is_the_same_on_every_numpy() -> None:
    drawn = [samplers.make_generator(42, index).random() for index in range(3)]
    assert drawn == [0.9167441575549085, 0.4674907799518424, 0.07123920291270869]


def test_no_seed_gives_fresh_entropy() -> None:
    assert samplers.make_generator(None).random() != samplers.make_generator(None).random()


# Broken logits


@pytest.mark.parametrize(
    ("x", "problem"),
    [
        (logits(1, math.nan, 2), "hold NaN"),
        (logits(1, INF), "hold .inf"),
        (logits(-INF, -INF), "are all -inf"),
    ],
)
def test_broken_logits_are_an_error_with_position_and_remedy(x: Logits, problem: str) -> None:
    with pytest.raises(LogitsError, match=f"logits at position 17 {problem}, .* `neort verify`"):
        samplers.check_finite(x, position=17)


def test_logits_with_some_excluded_entries_are_fine() -> None:
    samplers.check_finite(logits(-INF, 3e38, -3e38), position=0)
