"""The figures of a verification against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neort_export import VerificationError
from neort_export.verification.agreement import compare

Floats = NDArray[np.float32]

VOCABULARY = 30
SEQUENCES = [[int(t) for t in np.random.default_rng(n).integers(0, VOCABULARY, n)] for n in (50, 7)]


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


@pytest.mark.parametrize("rows", [56, 40])
def test_missing_rows_are_noticed(rows: int) -> None:
    with pytest.raises(ValueError, match=f"{rows} rows of logits for 57 tokens"):
        compare([logits(0)], [logits(0)[:rows]], SEQUENCES)


def test_logits_that_are_no_numbers_are_refused() -> None:
    broken = logits(0)
    broken[3, 4] = np.nan
    with pytest.raises(VerificationError, match="NaN or infinite"):
        compare([logits(0)], [broken], SEQUENCES)


def test_a_loss_beyond_the_numbers_is_an_infinite_perplexity() -> None:
    """exp of a thousand nats a token is no float."""
    certain = np.zeros((57, VOCABULARY), np.float32)
    certain[:, 0] = 2000
    found = compare([certain], [certain], SEQUENCES)
    assert found.perplexity == found.torch_perplexity == math.inf
    assert math.isnan(found.perplexity_ratio)
