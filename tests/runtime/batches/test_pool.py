"""Items on several threads: the order of the results, how many are in flight, and errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from neort.batches import in_order


def test_results_come_in_the_order_of_the_items_whatever_ends_first() -> None:
    second_is_done = threading.Event()

    def run(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(60)
        if item == 1:
            second_is_done.set()
        return 10 * item

    assert list(in_order(run, range(20), workers=2, window=4)) == [10 * item for item in range(20)]


def test_no_more_items_are_taken_than_the_window_allows() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    release = threading.Event()
    results = in_order(lambda item: release.wait(60) and item, items(), workers=2, window=5)
    release.set()
    for count, _ in zip(range(10), results, strict=False):
        assert len(taken) <= count + 6
    results.close()


def test_an_error_is_raised_in_the_place_of_its_item() -> None:
    def run(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    results = in_order(run, range(5), workers=2, window=5)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
