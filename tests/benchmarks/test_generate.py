"""The arithmetic of the comparison: medians, equal tokens, prompts."""

from __future__ import annotations

import pytest

from benchmarks.machine.roofline import Limits
from benchmarks.peers.comparison import make_prompts
from benchmarks.peers.generate import CELLS, cell_size, count_equal, median_limits, median_rates, rounded


@pytest.mark.parametrize(
    ("tokens", "expected", "count"),
    [([1, 2, 3], [1, 2, 3], 3), ([1, 9, 3], [1, 2, 3], 1), ([9], [1], 0), ([1, 2], [1, 2, 3], 2), ([], [], 0)],
)
def test_equal_tokens_are_counted_up_to_the_first_that_differs(
    tokens: list[int], expected: list[int], count: int
) -> None:
    assert count_equal(tokens, expected) == count


def test_rates_are_those_of_all_sequences_in_the_median_round() -> None:
    timings = [
        {"prefill_seconds": 2.0, "step_seconds": [0.1, 0.3]},
        {"prefill_seconds": 1.0, "step_seconds": [0.5, 0.5]},
        {"prefill_seconds": 9.0, "step_seconds": [0.1, 0.1]},
    ]
    assert median_rates(timings, 50, 4) == {"prefill_tokens_per_second": 100.0, "decode_tokens_per_second": 20.0}


def test_a_slow_step_counts() -> None:
    steady = [{"prefill_seconds": 1.0, "step_seconds": [0.2, 0.2, 0.2, 0.2]}]
    uneven = [{"prefill_seconds": 1.0, "step_seconds": [0.1, 0.1, 0.1, 0.5]}]
    assert median_rates(steady, 8, 1) == median_rates(uneven, 8, 1)


def test_each_limit_has_its_own_median() -> None:
    limits = [Limits(2, 1.0, 30.0, 5.0), Limits(2, 3.0, 10.0, 5.0), Limits(2, 2.0, 20.0, 4.0)]
    assert median_limits(limits) == {
        "threads": 2,
        "read_bytes_per_second": 2.0,
        "int8_operations_per_second": 20.0,
        "fp32_operations_per_second": 5.0,
    }


def test_first_prompt_is_the_same_for_every_batch() -> None:
    alone, together = make_prompts(32, 1), make_prompts(32, 8)
    assert together[0] == alone[0]
    assert len(together) == 8
    assert all(len(prompt) == 32 and max(prompt) < 50257 for prompt in together)


def test_no_measured_round_repeats_the_beginning_of_a_prompt() -> None:
    sizes = [(512, 1, 0), *((length, count, number) for length, count in CELLS for number in (1, 2, 3))]
    beginnings = [tuple(prompt[:3]) for size in sizes for prompt in make_prompts(*size)]
    assert len(set(beginnings)) == len(beginnings)


def test_prompts_are_the_same_in_every_run() -> None:
    assert make_prompts(4, 2, 3) == make_prompts(4, 2, 3)


def test_cells_are_read_from_the_command_line() -> None:
    assert cell_size("512x4") == (512, 4)


def test_times_are_kept_to_the_microsecond() -> None:
    raw = {"a": [{"prefill_seconds": 0.12345678, "step_seconds": [0.00000049]}]}
    assert rounded(raw) == {"a": [{"prefill_seconds": 0.123457, "step_seconds": [0.0]}]}
