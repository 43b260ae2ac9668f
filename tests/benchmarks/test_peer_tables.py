"""The comparison's tables and shares, from small results made here."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.harness.work import bytes_per_step, operations_of_prompt
from benchmarks.peers.numbers import NUMBERS
from benchmarks.report.peer_tables import batches, cold_start, generate, memory, shares, shares_of_limits, single_rates
from neort_models import preset

CONFIG = preset("gpt-neo-125m").config()
LIMITS = {
    "threads": 2,
    "read_bytes_per_second": 1e10,
    "int8_operations_per_second": 1e12,
    "fp32_operations_per_second": 1e11,
}
MACHINE = {"cpu": "Some CPU", "cpus": 2}


def make_cell(prompt: int, batch: int, **rates: tuple[float, float]) -> dict[str, Any]:
    medians = {
        name.replace("_", " "): {"prefill_tokens_per_second": prefill, "decode_tokens_per_second": decode}
        for name, (prefill, decode) in rates.items()
    }
    return {"prompt_tokens": prompt, "batch": batch, "medians": medians, "limits": LIMITS}


def make_pair(*cells: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {"compared_with": ["neort int8"], "new_tokens": 16, "cells": list(cells)} | facts


@pytest.fixture
def results() -> dict[str, Any]:
    return {
        "machine": MACHINE,
        "shape": "gpt-neo-125m",
        "pairs": {
            "transformers fp32": make_pair(
                make_cell(32, 1, neort_int8=(100, 20), transformers_fp32=(50, 5)),
                make_cell(512, 1, neort_int8=(300, 18), transformers_fp32=(60, 4)),
                make_cell(32, 8, neort_int8=(100, 90), transformers_fp32=(50, 10)),
            ),
            "transformers bf16": make_pair(
                make_cell(32, 1, neort_int8=(200, 40), transformers_bf16=(50, 10)), stopped="it ran out of memory"
            ),
            "OpenVINO int8": {"compared_with": ["neort int8"], "new_tokens": 16, "stopped": "it is not installed"},
        },
    }


def row(lines: list[str], name: str) -> list[str]:
    """A table's row as cells without the name."""
    (line,) = [line for line in lines if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_ours_are_medians_over_the_pairs(results: dict[str, Any]) -> None:
    rates = single_rates(results)
    assert rates["neort int8"][32] == {"prefill": 150, "decode": 30}
    assert rates["transformers fp32"] == {32: {"prefill": 50, "decode": 5}, 512: {"prefill": 60, "decode": 4}}


def test_ratios_are_of_one_run(results: dict[str, Any]) -> None:
    lines = generate(results)
    assert row(lines, "**neort int8**") == ["300", "30.0", "18.0", "", ""]
    assert row(lines, "transformers fp32") == ["60", "5.0", "4.0", "", "int8: 5.00, 4.00, 4.50"]


def test_every_format_of_a_kind_has_its_ratios(results: dict[str, Any]) -> None:
    cell = make_cell(32, 1, neort_int8=(100, 20), transformers_fp32=(50, 5))
    cell["medians"]["neort int8-block"] = {"prefill_tokens_per_second": 80, "decode_tokens_per_second": 30}
    results["pairs"] = {"transformers fp32": make_pair(cell, compared_with=["neort int8", "neort int8-block"])}
    lines = generate(results)
    assert row(lines, "transformers fp32")[-1] == "int8: 4.00; int8-block: 6.00"
    assert row(lines, "**neort int8-block**") == ["", "30.0", "", "", ""]


def test_systems_that_stopped_say_why(results: dict[str, Any]) -> None:
    lines = generate(results)
    assert any("OpenVINO int8 | not run: it is not installed" in line for line in lines)
    assert any("transformers bf16 | stopped: it ran out of memory" in line for line in lines)
    assert any(line.startswith("| transformers bf16 |  | 10.0") for line in lines)


def test_every_row_has_as_many_columns_as_the_head(results: dict[str, Any]) -> None:
    for lines in (generate(results), shares(results), batches(results)):
        counts = {line.count("|") for line in lines if line.startswith("|")}
        assert len(counts) == 1


def test_a_system_at_the_limit_has_a_share_of_one() -> None:
    numbers = NUMBERS["neort int8"]
    decode = LIMITS["read_bytes_per_second"] / bytes_per_step(CONFIG, numbers, 32 + 8, 4) * 4
    prefill = LIMITS["int8_operations_per_second"] / operations_of_prompt(CONFIG, 32, 4) * 4 * 32
    cell = make_cell(32, 4, neort_int8=(prefill, decode))
    found = shares_of_limits(CONFIG, make_pair(cell), cell, "neort int8")
    assert found == {"decode": pytest.approx(1), "prefill": pytest.approx(1)}


def test_products_count_against_the_limit_of_their_kind() -> None:
    cell = make_cell(512, 1, transformers_fp32=(100, 5), torch_dynamic_int8=(100, 5), transformers_bf16=(100, 5))
    fp32, int8, bf16 = (
        shares_of_limits(CONFIG, make_pair(cell), cell, name)
        for name in ("transformers fp32", "torch dynamic int8", "transformers bf16")
    )
    assert fp32["prefill"] == pytest.approx(10 * int8["prefill"])
    assert "prefill" not in bf16  # no limit of bf16 is measured
    assert fp32["decode"] == pytest.approx(2 * bf16["decode"])


def test_shares_name_their_limits(results: dict[str, Any]) -> None:
    lines = shares(results)
    assert lines[-1].startswith("The limits: 10 GB/s read, 1000 billion int8 and 100 billion fp32")
    assert all(figure.endswith("%") for figure in row(lines, "transformers fp32")[:3])


def test_batches_show_the_gain_of_eight(results: dict[str, Any]) -> None:
    lines = batches(results)
    assert row(lines, "**neort int8**") == ["30.0", "", "90.0", "3.0"]
    assert row(lines, "transformers fp32") == ["5.0", "", "10.0", "2.0"]
    assert not any("bf16" in line for line in lines)  # one sequence only


def test_cold_start_adds_up() -> None:
    lines = cold_start(
        {
            "machine": MACHINE,
            "shape": "gpt-neo-125m",
            "imports": {"numpy_seconds": 0.1, "neort_seconds_beyond_numpy": 0.05},
            "systems": {
                "neort int8": {"ready_seconds": 0.5, "first_token_seconds": 0.25},
                "OpenVINO int8": {"stopped": "it is not installed"},
            },
        }
    )
    assert row(lines, "**neort int8**") == ["0.50", "0.25", "0.75"]
    assert row(lines, "OpenVINO int8")[0] == "not run: it is not installed"
    assert lines[-1] == "`import neort` takes 0.05 s beyond numpy's 0.10 s."


def test_memory_is_told_in_gigabytes() -> None:
    figures = {"rss": 2e9, "anonymous": 1.5e9, "file": 0.5e9, "peak_rss": 3e9, "pss": 1e9}
    lines = memory(
        {
            "machine": MACHINE,
            "shape": "gpt-neo-125m",
            "systems": {"neort int8": {"weight_bytes": 1e9, "loaded": figures, "generated": figures}},
            "together": {"neort int8": {"processes": 4, "generated": figures}},
        }
    )
    assert row(lines, "**neort int8**") == ["1.00", "2.00", "2.00", "1.50", "3.00"]
    assert "4 processes of neort int8 take 1.00 GB together" in lines[-1]
