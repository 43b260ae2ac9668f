"""Tables of neort alone, and how a profile's events become rows."""

from __future__ import annotations

from typing import Any

from benchmarks.engine.profile_nodes import BETWEEN, kind, median, split
from benchmarks.report.engine_tables import browser, kv_cache, profile, short_prompts, stall, threads
from benchmarks.report.format_tables import block_sizes, far_channels

MACHINE = {"cpu": "Some CPU", "cpus": 2}


def event(operator: str, name: str, start: int, microseconds: int) -> dict[str, Any]:
    args = {"op_name": operator}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": microseconds, "args": args}


def run(start: int, microseconds: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": start, "dur": microseconds, "args": {}}


EVENTS = [
    {"cat": "Session", "name": "model_loading", "ts": 0, "dur": 5, "args": {}},
    event("Add", "a/Add", 10, 1000),
    event("MatMulIntegerToFloat", "h.0.mlp.c_fc/product", 1020, 3000),
    run(5, 5000),
    event("Add", "a/Add", 6000, 2000),
    event("MatMulIntegerToFloat", "h.0.mlp.c_fc/product", 8010, 5000),
    run(5990, 8000),
]


def test_a_run_is_its_nodes_and_what_lies_between_them() -> None:
    first, second = split(EVENTS)
    assert {name: row["milliseconds"] for name, row in first.items()} == {
        "Add": 1,
        "MatMulIntegerToFloat c_fc": 3,
        BETWEEN: 1,
    }
    assert sum(row["milliseconds"] for row in second.values()) == 8


def test_products_are_told_apart_by_layer() -> None:
    assert kind(event("MatMulNBits", "transformer.h.3.attn.attention.out_proj/product", 0, 1)) == "MatMulNBits out_proj"
    assert kind(event("Add", "transformer.h.3.mlp.c_fc/biased", 0, 1)) == "Add"


def test_a_profile_has_a_column_for_each_run_and_bundle() -> None:
    facts = median(list(split(EVENTS))) | {"limit_milliseconds": 2.5}
    results = {
        "name": "tiny",
        "machine": MACHINE,
        "bundles": {label: {"runs": {"decode @32": facts}} for label in ("before", "after")},
    }
    lines = profile(results)
    assert lines[0].count("|") == lines[1].count("|") == lines[-1].count("|") == 4
    assert lines[0].endswith("| decode @32, before | decode @32, after |")
    assert "| MatMulIntegerToFloat c_fc | 4.0 | 4.0 |" in lines
    assert "| **all** | 6.5 | 6.5 |" in lines


def test_a_page_has_a_row_for_each_number_of_threads_beside_neort() -> None:
    rates = {"neort, 1 thread": 400.0, "page, 1 thread": 80.0}
    results = {
        "bundle": "tiny",
        "machine": MACHINE,
        "browser": "Chromium 1",
        "onnxruntime_web": "1.0",
        "start_seconds": {"neort, 1 thread": 0.04, "page, 1 thread": 1.26},
        "prompts": {
            length: {name: {"text_rate": rate / factor, "prompt_rate": 10 * rate} for name, rate in rates.items()}
            for length, factor in (("32", 1), ("512", 2))
        },
    }
    lines = browser(results)
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert lines[2:] == ["| neort, 1 thread | 400 | 200 | 4000 | 0.0 |", "| page, 1 thread | 80 | 40 | 800 | 1.3 |"]


def test_caches_are_compared_run_by_run() -> None:
    results = {
        "bundle": "tiny",
        "machine": MACHINE,
        "bytes_per_position": {"fp32": 4000, "int8": 1000},
        "runs": {"decode @32, batch 1": {"milliseconds": {"fp32": 2.0, "int8": 1.0}, "fp32_over_int8": 2.0}},
    }
    assert kv_cache(results)[2:] == [
        "| decode @32, batch 1 | 2.0 | 1.0 | 2.00 |",
        "| kB per position of a sequence | 4.0 | 1.0 | 4.00 |",
    ]


def test_blocks_are_compared_by_time_reading_and_bits() -> None:
    facts = {
        "bits": 8,
        "block_size": 256,
        "weight_bytes": 17_000_000,
        "microseconds": {"1": 340.0, "2": 425.0, "256": 20_000.0},
        "row_difference": {"even": 0.0, "odd": 6.1e-5},
    }
    channels = facts | {"block_size": None, "row_difference": {"even": 0.0, "odd": 0.0}}
    machine = {"cpu": "Some CPU", "cpus": 2}
    lines = block_sizes({"machine": machine, "inner": 2048, "columns": 8192, "formats": [facts, channels]})
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert lines[2:] == [
        "| 8 bit, blocks of 256 | 340 | 425 | 20000 | 50 | 40 | 0 | 6e-05 |",
        "| 8 bit, by channel | 340 | 425 | 20000 | 50 | 40 | 0 | 0 |",
    ]


def test_far_channels_have_a_column_for_each_mean() -> None:
    facts = {"mean_kl": 1.04e-3, "relative_error": 0.0216}
    channels = {
        "mean 0": {"int8": facts, "int4": facts},
        "mean 1000": {"int8": facts, "int4": facts | {"mean_kl": 2e-3}},
    }
    results = {"checkpoint": "tiny", "tokens": 10240, "channels": channels}
    assert far_channels(results) == [
        "| tiny, 10,240 tokens: mean KL, error of logits | mean 0 | mean 1000 |",
        "|---|---|---|",
        "| int8 | 1.0e-03, 2.2% | 1.0e-03, 2.2% |",
        "| int4 | 1.0e-03, 2.2% | 2.0e-03, 2.2% |",
    ]


def test_threads_are_told_apart_by_whether_they_outnumber_the_heads() -> None:
    def differences(batch: float, one_thread: float) -> dict[str, dict[str, float]]:
        none = dict.fromkeys(("batch", "one_thread"), 0.0)
        return {"1": none, "4": none, "5": none, "16": {"batch": batch, "one_thread": one_thread}}

    row = {"onnxruntime": differences(2e-2, 3e-7), "neort": differences(0.0, 0.0)}
    lines = threads({"num_heads": 4, "rows": [{"format": "int4", "kv_cache": "fp32", **row}]})
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert "1 to 4 threads" in lines[0]
    assert "5 to 16 threads" in lines[0]
    assert lines[2:] == ["| int4, fp32 cache | 0 | 2e-02 | 3e-07 | 0 |"]


def test_a_stall_is_shown_beside_the_streams_usual_gap() -> None:
    row = {"usual_gap": 15.0, "largest_gap": 700.4, "p99_gap": 650.0, "time_to_first_token": 690.0}
    results = {
        "machine": MACHINE,
        "bundle": "b",
        "prompt": 2000,
        "arrival_milliseconds": {"whole": row, "chunks of 128": {**row, "largest_gap": 60.0}},
        "short_prompts_milliseconds": {"8 x 32": {"one_by_one": 90.0, "together": 45.0}},
    }
    assert stall(results)[2:] == [
        "| whole | 700 | 650 | 690 |",
        "| chunks of 128 | 60 | 650 | 690 |",
        "| no prompt | 15 | | |",
    ]
    assert short_prompts(results)[-1] == "| 8 x 32 | 90 | 45 | 2.00 |"
