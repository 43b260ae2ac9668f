"""Limits and grades: what stops an export, in which words, and which format is proposed instead."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpoints import random_model, save
from folders import ROOT
from neort.bundle import FORMATS, Quantization, read_spec
from neort.errors import ConfigError
from neort_export import Limits, VerificationError, export, exporter
from neort_export.bundle import model_section
from neort_export.checkpoint import Checkpoint
from neort_export.graph import decoder_graph
from neort_export.verification.agreement import Agreement
from neort_export.verification.figures import Verification
from neort_export.verification.grades import GRADES, expected_bytes, grade, meaning
from neort_export.verification.structure import Structure

SPEED = ROOT / "benchmarks" / "results" / "speed.json"
GOOD = Agreement(2048, 1e-5, 1e-5, 1e-4, 0.99, 20.0, 20.0, 1e-4)


def measured(quantized: Agreement | None = GOOD, **figures: Any) -> Verification:
    fixed: dict[str, Any] = {
        "quantization": "int8" if quantized else "fp32",
        "structure": Structure(80, (0.5, 2.0)),
        "fp32": None if quantized else GOOD,
        "quantized": quantized,
        "batch_difference": 0.0,
        "prompts_difference": 0.0,
        "chunk_difference": 0.0,
        "mean_chunk_difference": 0.0,
        "golden": {},
    }
    return Verification(**(fixed | figures))


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> Checkpoint:
    return Checkpoint(checkpoint)


def refusal(verification: Verification, source: Checkpoint, limits: Limits | None = None) -> str:
    with pytest.raises(VerificationError) as caught:
        verification.check(limits or Limits(), source)
    return str(caught.value)


# Grades


@pytest.mark.parametrize(
    ("ratio", "kl", "expected"),
    [
        (0.999, 1e-4, "excellent"),
        (1.002, 1e-4, "excellent"),
        (1.0025, 1e-4, "good"),
        (1.0, 5e-3, "good"),
        (1.03, 1e-4, "noticeable"),
        (1.0, 0.03, "noticeable"),
        (1.0, 3.0, "noticeable"),
        (1.0, 1e9, "noticeable"),
        (1.06, 1e-4, "poor"),
        (math.nan, 1e-4, "poor"),
    ],
)
def test_a_grade_is_the_worse_of_perplexity_and_kl_but_only_perplexity_is_poor(
    ratio: float, kl: float, expected: str
) -> None:
    agreement = replace(GOOD, perplexity=20.0 * ratio, mean_kl=kl, perplexity_ratio_error=0.0)
    assert grade(agreement) == expected


def test_a_kl_of_nan_is_poor_whatever_the_perplexity() -> None:
    assert grade(replace(GOOD, mean_kl=math.nan)) == "poor"


def test_an_uncertain_perplexity_ratio_is_told_and_not_called_poor() -> None:
    assert grade(replace(GOOD, perplexity=20.0 * 1.06, perplexity_ratio_error=0.03)) == "noticeable"
    assert grade(replace(GOOD, perplexity=20.0 * 1.003, perplexity_ratio_error=0.03)) == "good"


def test_each_grade_says_what_it_means_in_perplexity() -> None:
    assert [meaning(name) for name in GRADES] == [
        "perplexity at most 0.2 % above torch's",
        "perplexity at most 1 % above torch's",
        "perplexity at most 5 % above torch's",
        "perplexity more than 5 % above torch's",
    ]


# Limits


def test_a_sound_bundle_of_any_kl_and_any_fp32_difference_passes(source: Checkpoint) -> None:
    measured(replace(GOOD, mean_kl=0.138)).check(Limits(), source)
    measured(None, fp32=replace(GOOD, max_abs_diff=0.5)).check(Limits(), source)


def test_a_poor_one_is_refused_and_the_next_better_format_is_named(source: Checkpoint) -> None:
    poor = replace(GOOD, perplexity=20.0 * 1.07)
    message = refusal(measured(poor, quantization="int4"), source)
    assert "int4 over torch, perplexity ratio less two standard errors: 1.0698, limit 1.05" in message
    assert "The next better format is int8-block (--quantization int8-block)" in message
    assert "about 0.8 times the rate" in message
    assert "on 2,048 tokens of text, where its quantization loss is poor: " in message
    measured(poor).check(Limits(perplexity_ratio=1.1), source)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("figure", ["mean_kl", "perplexity", "max_abs_diff", "batch_difference", "chunk_difference"])
def test_figures_that_are_no_numbers_are_refused_without_any_limit(
    figure: str, value: float, source: Checkpoint
) -> None:
    none = Limits(mean_kl=math.inf, perplexity_ratio=math.inf)
    spoilt: dict[str, Any] = {figure: value}
    if figure.endswith("difference"):
        refusal(measured(**spoilt), source, none)
    elif figure == "max_abs_diff":
        refusal(measured(None, fp32=replace(GOOD, max_abs_diff=value)), source, none)
    else:
        refusal(measured(replace(GOOD, **spoilt)), source, none)


@pytest.mark.parametrize("errors", [(0.5, math.nan), (math.nan, 0.5), (0.5, math.inf)])
def test_a_part_whose_figure_is_no_number_is_refused_by_its_name(
    errors: tuple[float, float], source: Checkpoint
) -> None:
    spec = read_spec({"model": model_section(source)})
    index = next(i for i, error in enumerate(errors) if not math.isfinite(error))
    name = ("the embedding", "layer 0")[index]
    with pytest.raises(VerificationError, match=name):
        Structure(80, errors).check(spec)
    with pytest.raises(VerificationError, match=name):
        Structure(80, (0.5, 0.5), errors).check(spec)


def test_nobody_who_exports_fp32_is_told_to_try_fp32(source: Checkpoint) -> None:
    message = refusal(measured(None), source, Limits(max_abs_diff=1e-9))
    assert message.endswith("max abs logit difference: 1e-05, limit 1e-09. Raise the limit knowingly (--max-abs-diff)")


def test_the_perplexity_ratio_may_be_off_by_two_standard_errors(source: Checkpoint) -> None:
    worse = replace(GOOD, perplexity=20.0 * 1.0023)
    limits = Limits(perplexity_ratio=1.002)
    measured(replace(worse, perplexity_ratio_error=2e-4)).check(limits, source)
    assert "standard errors: 1.0021, limit 1.002" in refusal(measured(worse), source, limits)


@pytest.mark.parametrize("name", ["max_abs_diff", "mean_kl", "perplexity"])
@pytest.mark.parametrize("limits", [Limits(1.0, 1.0, 2.0), Limits()])
def test_a_figure_that_is_no_number_misses_every_limit(name: str, limits: Limits, source: Checkpoint) -> None:
    figures: dict[str, Any] = {name: math.nan}
    bad = replace(GOOD, **figures)
    assert "nan, limit" in refusal(
        measured(None, fp32=bad) if name == "max_abs_diff" else measured(bad), source, limits
    )


@pytest.mark.parametrize("quantized", [GOOD, None])
def test_a_batch_may_change_no_bit(quantized: Agreement | None, source: Checkpoint) -> None:
    message = refusal(measured(quantized, batch_difference=1e-7), source)
    assert "in a batch against alone, max abs logit difference: 1e-07, limit 0. Please report that" in message


def test_an_int8_cache_has_the_limits_of_its_format(source: Checkpoint) -> None:
    verification = measured(int8_cache=replace(GOOD, perplexity=22.0))
    verification.check(Limits(), source)
    assert "int8 with an int8 cache over torch" in verification.int8_cache_misses(Limits())[0]


@pytest.mark.parametrize("limit", [-1.0, math.nan])
def test_a_limit_is_a_number_of_at_least_0(limit: float) -> None:
    with pytest.raises(ConfigError, match="the limit mean_kl is"):
        Limits(mean_kl=limit)


# What is said about other formats


@pytest.mark.parametrize("quantization", list(FORMATS))
def test_rates_and_sizes_are_those_that_were_measured(quantization: Quantization) -> None:
    found = json.loads(SPEED.read_text(encoding="utf-8"))["formats"]
    rate = found[quantization]["decode_tokens_per_second"] / found["int8"]["decode_tokens_per_second"]
    assert FORMATS[quantization].decode_rate == pytest.approx(rate, abs=0.06)


def test_the_expected_size_is_near_that_of_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = save(random_model(hidden_size=256, vocab_size=1000), tmp_path / "checkpoint")
    graph = decoder_graph(Checkpoint(checkpoint))
    monkeypatch.setattr(exporter, "decoder_graph", lambda _: graph.clone())
    quantizations: tuple[Quantization, ...] = ("int8", "int4")
    for quantization in quantizations:
        bundle = export(checkpoint, tmp_path / quantization, quantization=quantization, verify=False).path
        found = (bundle / "weights.data").stat().st_size
        expected = expected_bytes(Checkpoint(checkpoint), quantization)
        assert expected == pytest.approx(found, rel=0.08), quantization  # tensors begin on pages
