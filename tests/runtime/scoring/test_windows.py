"""Windows over a document: those of lm-eval, worked out by hand, and by its own function where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neort.scoring import rolling_windows

PREFIX = 99


def windows(count: int, length: int) -> list[tuple[list[int], list[int]]]:
    found = rolling_windows(np.arange(count), PREFIX, length)
    return [(window.token_ids.tolist(), window.targets.tolist()) for window in found]


def test_the_last_window_is_full_and_foretells_only_what_is_left() -> None:
    assert windows(10, 4) == [
        ([PREFIX, 0, 1, 2], [0, 1, 2, 3]),
        ([3, 4, 5, 6], [4, 5, 6, 7]),
        ([5, 6, 7, 8], [8, 9]),
    ]


def test_a_document_that_fits_is_one_window() -> None:
    assert windows(3, 4) == [([PREFIX, 0, 1], [0, 1, 2])]
    assert windows(4, 4) == [([PREFIX, 0, 1, 2], [0, 1, 2, 3])]
    assert windows(5, 4) == [([PREFIX, 0, 1, 2], [0, 1, 2, 3]), ([0, 1, 2, 3], [4])]


def test_a_document_without_tokens_has_no_window() -> None:
    assert windows(0, 4) == []


@given(st.integers(0, 60), st.integers(1, 9))
@settings(max_examples=30)
def test_each_token_is_foretold_once(count: int, length: int) -> None:
    found = windows(count, length)
    assert [token for _, targets in found for token in targets] == list(range(count))
    assert all(len(targets) <= len(ids) <= length for ids, targets in found)


@given(st.integers(0, 60), st.integers(1, 9))
@settings(max_examples=30)
def test_the_windows_are_lm_evals(count: int, length: int) -> None:
    utils = pytest.importorskip("lm_eval.utils")
    theirs = utils.get_rolling_token_windows(list(range(count)), PREFIX, length, 1)
    assert [(list(ids), list(targets)) for ids, targets in theirs] == windows(count, length)
