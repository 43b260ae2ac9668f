"""Bytes of neort's formats in the benchmarks are those of the one table, in code and in the results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine.profile_nodes import limit
from benchmarks.machine.roofline import Limits
from benchmarks.peers.catalog import OURS
from benchmarks.peers.numbers import NUMBERS
from folders import ROOT
from neort.bundle import BlockFormat, Format, RowFormat, format_of
from neort_models import preset

PROFILES = sorted((ROOT / "benchmarks" / "results").glob("profile-*.json"))


@pytest.mark.parametrize("system", list(OURS))
def test_bytes_per_weight_are_those_of_the_format(system: str) -> None:
    form = format_of(OURS[system].prepared.removeprefix("neort-"))
    assert form is not None
    assert NUMBERS[system].linear_bytes == form.linears.facts()["bytes_per_weight"]
    assert NUMBERS[system].head_bytes == form.head.facts()["bytes_per_weight"]


@pytest.mark.parametrize("file", PROFILES, ids=lambda file: file.stem)
def test_the_machine_s_limit_counts_the_weights_of_the_format_that_was_profiled(file: Path) -> None:
    """Blocks of a quarter of the length take more bytes: a table that mixes them up is off by 15 % in int4."""
    results = json.loads(file.read_text(encoding="utf-8"))
    config = preset("gpt-neo-125m" if "125m" in file.stem else "gpt-neo-1.3b").config()
    limits = Limits(**results["limits"])
    for bundle in results["bundles"].values():
        form = measured_form(bundle["format"])
        for run in bundle["runs"].values():
            assert run["limit_milliseconds"] == limit(config, form, run["tokens"], limits)


def test_a_step_s_limit_is_its_bytes_over_what_the_machine_reads() -> None:
    known, limits = preset("gpt-neo-125m"), Limits(2, 1e9, 1e9, 1e8)
    form = format_of("int4")
    assert form is not None
    layers = 12 * known.num_layers * known.hidden_size**2
    head = known.vocab_size * known.hidden_size
    expected = layers * (0.5 + 4.5 / 128) + head * (1 + 4 / 256)
    assert limit(known.config(), form, 1, limits) == pytest.approx(expected / 1e6, rel=1e-3)
    assert limit(known.config(), form, 100, limits) == pytest.approx(100 * 2 * layers / 1e6)


def measured_form(section: dict[str, Any]) -> Format:
    """The format as it was when it was profiled: older bundles had other blocks."""
    now = format_of(section["name"])
    assert now is not None
    form = dataclasses.replace(now, linears=matrix(section), head=matrix(section["head"]))
    assert form.contradictions(section) == {}
    return form


def matrix(facts: dict[str, Any]) -> RowFormat | BlockFormat:
    if facts["block_size"] is None:
        return RowFormat(facts["bits"])
    return BlockFormat(facts["bits"], facts["block_size"], facts["asymmetric"])
