"""Whatever a bundle's files hold, loading ends in an error of neort's or in a model, and raw damage never in another.

The long run is ``python tests/fuzz/bundles.py --cases 20000``.
"""

from __future__ import annotations

import sys

import pytest

from bundles import OTHER, REFUSED, SAME, WEIGHT, Case, run_cases, unexpected

CASES = 240


def test_a_case_is_the_same_whenever_it_is_asked_for() -> None:
    assert [Case.of(number) for number in range(100)] == [Case.of(number) for number in range(100)]
    assert {Case.of(number).file for number in range(CASES)} == set(WEIGHT)


@pytest.mark.skipif(sys.platform == "win32", reason="files that a session has mapped cannot be replaced there")
def test_damaged_bundles_are_refused_in_a_sentence_or_give_the_same_output() -> None:
    results = list(run_cases(range(CASES), processes=2))
    assert [(r.case, r.kind, r.outcome, r.detail) for r in unexpected(results)] == []
    assert sorted(result.case for result in results) == list(range(CASES))
    assert {REFUSED, SAME, OTHER} <= {result.outcome for result in results}
