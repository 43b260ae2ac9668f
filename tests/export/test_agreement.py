"""The figures of a verification against their definitions."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neort_export import Limits, VerificationError
from neort_export.verification import Agreement, check, compare

Floats = NDArray[np.float32]

VOCABULARY = 30
SEQUENCES = [[int(t) for t in np.random.default_rng(n).integers(0, VOCABULARY, n)] for n in (50, 7)]
GOOD = Agreement(2048, 1e-5, 1e-5, 1e-4, 0.99, 20.0, 20.0, 1e-4)


def logits(noise: float) -> Floats:
    random = np.random.default_rng(1)
    exact = random.standard_normal((57, VOCABULARY)) * 3
    return (exact + noise * random.standard_normal(exact.shape)).astype(np.float32)


def test_figures_are_what_torch_makes_of_the_same_logits() -> None:
    expected, actual = logits(0), logits(0.1)
    found = compare([expected[:20], expected[20:]], [actual[:33], actual[33:40], actual[40:]], SEQUENCES)
    p, q = (torch.log_softmax(torch.from_numpy(x).double(), -1) for x in (expected, actual))
    kl = (p.exp() * (p - q)).sum(-1).numpy()
    following = [(i, t) for start, ids in ((0, SEQUENCES[0]), (50, SEQUENCES[1])) for i, t in enumerate(ids[1:], start)]
    losses = np.array([[-float(x[i, t]) for x in (p, q)] for i, t in following])
    assert found.tokens == 57
    assert found.max_abs_diff == pytest.approx(np.abs(expected - actual).max())
    assert found.mean_kl == pytest.approx(kl.mean())
    assert found.p99_kl == pytest.approx(np.quantile(kl, 0.99))
    assert found.top1_agreement == np.mean(expected.argmax(-1) == actual.argmax(-1))
    assert found.torch_perplexity == pytest.approx(math.exp(losses[:, 0].mean()))
    assert found.perplexity == pytest.approx(math.exp(losses[:, 1].mean()))
    error = np.std(losses[:, 1] - losses[:, 0]) / math.sqrt(len(losses))
    assert found.perplexity_ratio_error == pytest.approx(found.perplexity_ratio * error)


def test_the_perplexity_ratio_may_be_off_by_two_standard_errors() -> None:
    worse = dataclasses.replace(GOOD, perplexity=20.0 * 1.0023)
    check(GOOD, dataclasses.replace(worse, perplexity_ratio_error=2e-4), 0.0, Limits(perplexity_ratio=1.002))
    with pytest.raises(VerificationError, match="standard errors"):
        check(GOOD, worse, 0.0, Limits(perplexity_ratio=1.002))


def test_a_batch_may_change_no_bit() -> None:
    check(GOOD, GOOD, 0.0, Limits())
    with pytest.raises(VerificationError, match="in a batch against alone"):
        check(GOOD, GOOD, 1e-5, Limits())


@pytest.mark.parametrize("rows", [56, 40])
def test_missing_rows_are_noticed(rows: int) -> None:
    with pytest.raises(ValueError, match=f"{rows} rows of logits for 57 tokens"):
        compare([logits(0)], [logits(0)[:rows]], SEQUENCES)


def test_logits_that_are_no_numbers_are_refused() -> None:
    broken = logits(0)
    broken[3, 4] = np.nan
    with pytest.raises(VerificationError, match="NaN or infinite"):
        compare([logits(0)], [broken], SEQUENCES)
