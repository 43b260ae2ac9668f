"""The capacity model: sums by hand, and that its file is what it makes of the measured rates."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.harness.results import read_results
from benchmarks.report.scaling_tables import assumptions, costs, proxies, saturation
from benchmarks.scaling.assumptions import ASSUMPTIONS
from benchmarks.scaling.capacity import SHAPES, batch_node, capacity, measured_rates, part, uses

RATES = {"threads": 2, "prefill": 2560.0, "decode": 128.0, "served": 100.0, "served_threads": 2, "weights": 8e9}
"""A record of 256 and 128 tokens takes 1.1 s of two CPUs; an answer reads 16 times the weights."""


def test_a_node_is_bounded_by_its_cpus_or_by_its_memory() -> None:
    by_memory = batch_node(RATES)
    assert by_memory["by_cpus"] == pytest.approx(128 / 1.1 * 16)
    assert by_memory["tokens_per_second"] == by_memory["by_memory"] == pytest.approx(80e9 / 1e9)
    by_cpus = batch_node(RATES | {"weights": 1e6})
    assert by_cpus["tokens_per_second"] == by_cpus["by_cpus"]


def test_dollars_follow_from_hours_of_cpus() -> None:
    node = {"tokens_per_second": 1e6 / 3600 / ASSUMPTIONS["busy_batch"].value}  # a million in an hour of a node
    found = uses(node, "batch")
    assert found["dollars_per_million_on_demand"] == pytest.approx(32 * ASSUMPTIONS["on_demand"].value)
    assert found["days"] == pytest.approx(1e12 / (1e6 * 24 * 1000))


def test_a_part_is_full_where_the_load_is_its_capacity() -> None:
    assert part(2.0, 4.0) == {"share": 0.5, "full_at_nodes": 2000}


def test_the_file_is_what_follows_from_the_measured_rates() -> None:
    file, ways = read_results("capacity"), read_results("proxies")
    assert file is not None
    assert ways is not None
    made = capacity({shape: measured_rates(shape) for shape in SHAPES}, ways)
    del file["machine"]
    assert file == json.loads(json.dumps(made))


def test_every_assumption_says_where_it_is_from() -> None:
    assert all(each.what and each.why and each.value > 0 for each in ASSUMPTIONS.values())


@pytest.mark.parametrize("table", [assumptions, costs, proxies, saturation])
def test_tables_have_a_cell_for_each_column(table: Any) -> None:
    results = read_results("proxies" if table is proxies else "capacity")
    assert results is not None
    lines = table(results)
    assert len(lines) > 3
    assert len({line.count("|") for line in lines}) == 1
