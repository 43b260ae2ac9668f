"""Channels far from zero, constant and dead ones: int4 knows their moments, and loses no more than without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import GPTNeoForCausalLM

import neort
from benchmarks.checkpoints.outliers import with_far_channels
from checkpoints import POSITIONS, Floats, random_ids, random_model, save, torch_logits
from neort.bundle import BLOCKS_OF_4_BITS
from neort_export import export
from neort_export.checkpoint import Checkpoint
from neort_export.graph import build as graphs
from neort_export.graph.trace import trace
from neort_export.quantization.blockwise import quantize_rows
from neort_export.quantization.gptq import compensated_rows, inverse_factors
from neort_export.quantization.moments import Moments

Doubles = NDArray[np.float64]
Edit = Callable[[GPTNeoForCausalLM], GPTNeoForCausalLM]
HIDDEN = 64
ERROR = 0.25  # of int4's logits over their own deviation; 0.2 without any such channel


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    folder = save(random_model(hidden_size=HIDDEN), tmp_path_factory.mktemp("traced") / "checkpoint")
    return trace(Checkpoint(folder).config)


@pytest.fixture
def error_of_int4(
    traced: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[GPTNeoForCausalLM], float]:
    """The error of an int4 bundle's logits as a share of their deviation in torch."""
    monkeypatch.setattr(graphs, "trace", lambda _: traced.clone())

    def error(model: GPTNeoForCausalLM) -> float:
        save(model, tmp_path / "checkpoint")
        bundle = export(tmp_path / "checkpoint", tmp_path / "bundle", quantization="int4", verify=False).path
        ids = random_ids(POSITIONS)
        expected = torch_logits(model, ids)
        return float(np.std(neort.load(bundle).logits(ids) - expected) / np.std(expected))

    return error


def change(model: GPTNeoForCausalLM, names: str, value: float, *places: int) -> GPTNeoForCausalLM:
    """Set some or all elements of the parameters whose name has these letters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if names in name:
                parameter[list(places) if places else slice(None)] = value
    return model


def far_norms(model: GPTNeoForCausalLM) -> GPTNeoForCausalLM:
    for norm in ("ln_1", "ln_2", "ln_f"):
        change(model, f"{norm}.bias", 100, 7)
    return model


def dead_norms(model: GPTNeoForCausalLM) -> GPTNeoForCausalLM:
    for norm in ("ln_1", "ln_2", "ln_f"):
        change(model, f"{norm}.weight", 0)
    return model


def constant_channels(model: GPTNeoForCausalLM) -> GPTNeoForCausalLM:
    """One channel after each norm is always 300, another one always zero."""
    change(model, ".ln_", 0, 7, 8)
    for norm in ("ln_1", "ln_2", "ln_f"):
        change(model, f"{norm}.bias", 300, 8)
    return model


KINDS: dict[str, Edit] = {
    "means of 100": far_norms,
    "constant inputs": dead_norms,
    "a constant and a dead channel": constant_channels,
    "means of 1e4 at a deviation of 1": lambda model: with_far_channels(model, 1e4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_int4_is_as_near_to_torch_as_without_such_channels(
    kind: str, error_of_int4: Callable[[GPTNeoForCausalLM], float]
) -> None:
    assert error_of_int4(KINDS[kind](random_model(hidden_size=HIDDEN))) < ERROR


def test_the_checkpoint_with_far_channels_is_the_same_function() -> None:
    model, ids = random_model(hidden_size=HIDDEN), random_ids(POSITIONS)
    np.testing.assert_allclose(
        torch_logits(with_far_channels(model, 100), ids), torch_logits(model, ids), rtol=0, atol=1e-3
    )


# Moments


def chunks_of(whole: Doubles, size: int) -> list[Doubles]:
    padded = np.pad(whole, (0, -len(whole) % size))
    return [padded[i : i + size, i : i + size] for i in range(0, len(padded), size)]


@given(
    seed=st.integers(0, 1 << 30),
    parts=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    columns=st.integers(1, 12),
    far=st.sampled_from([0.0, 1.0, 1e2, 1e4, 1e6]),
    away=st.sampled_from([0.0, 1.0, 1e3]),
    deviation=st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
)
def test_moments_are_the_float64_answer_for_any_shift_and_scale(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    parts: list[int],
    columns: int,
    far: float,
    away: float,
    deviation: float,
) -> None:
    """To 1e-4 of the channels' own size: means a million deviations from zero, and shifts anywhere."""
    rng = np.random.default_rng(seed)
    mean = far * rng.normal(size=columns)
    x = (mean + deviation * rng.normal(size=(sum(parts), columns))).astype(np.float32)
    shift = (x.mean(axis=0) + away * deviation * rng.normal(size=columns)).astype(np.float32)
    scale = np.exp(3 * rng.normal(size=columns)).astype(np.float32)
    moments = Moments(tmp_path_factory.mktemp("moments") / "scratch", chunk=8)
    for part in np.split(x, np.cumsum(parts)[:-1]):
        moments.add("layer", part)
    for folded in (False, True):
        wide = x.astype(np.float64)
        if folded:
            moments.fold("layer", shift, scale)
            wide = (wide - shift) / scale
        expected = wide.T @ wide / len(wide)
        size = np.sqrt(np.diagonal(expected))
        for found, chunk, one in zip(
            moments.read("layer"), chunks_of(expected, 8), chunks_of(np.outer(size, size), 8), strict=True
        ):
            assert (np.abs(found - chunk) <= 1e-4 * one + 1e-30).all()


@pytest.mark.parametrize("far", [1e4, 1e6])
def test_far_channels_are_compensated_as_if_they_were_near(far: float, tmp_path: Path) -> None:
    """A shift takes the mean away; what is left has the moments of the same channels around zero."""
    rng = np.random.default_rng(1)
    near = (rng.normal(size=(500, 32)) @ rng.normal(size=(32, 32)) * 8).astype(np.float32)
    factors = []
    for name, mean in (("near", 0.0), ("far", far)):
        moments = Moments(tmp_path / name, chunk=32)
        moments.add("layer", (near + np.float32(mean)) - np.float32(0))
        moments.fold("layer", np.full(32, mean, np.float32), np.ones(32, np.float32))
        factors.append(inverse_factors(moments.read("layer")))
    np.testing.assert_allclose(factors[1], factors[0], atol=0.05)


def test_moments_beyond_float32_are_not_finite_and_nothing_is_compensated(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 48)).astype(np.float32)
    x[:, 20] *= 1e30
    moments = Moments(tmp_path / "moments", chunk=16)
    for part in (x[:20], x[20:]):
        moments.add("layer", part)
    read = moments.read("layer")
    assert np.isfinite(read[[0, 2]]).all()
    assert not np.isfinite(read[1]).all()
    factors = inverse_factors(read)
    np.testing.assert_array_equal(factors[1], np.eye(16))
    assert np.triu(factors[0], 1).any()


# Factors


def indefinite(kind: str) -> Doubles:
    rng = np.random.default_rng(3)
    if kind == "slightly":
        vector = rng.normal(size=32)
        return np.outer(vector, vector) - 0.02 * np.mean(vector**2) * np.eye(32)
    if kind == "entirely":
        return np.ones((32, 32)) - 2 * np.tri(32) - 2 * np.tri(32).T + 5 * np.eye(32)
    noise = rng.normal(size=(32, 32))
    return np.eye(32) + (noise + noise.T) * 30


@pytest.mark.parametrize("kind", ["slightly", "entirely", "noise"])
def test_indefinite_moments_are_damped_until_they_have_a_factor(kind: str) -> None:
    moments = indefinite(kind)
    assert np.linalg.eigvalsh(moments / np.trace(moments) * 32)[0] < -0.01
    (factor,) = inverse_factors(moments[None])
    assert np.isfinite(factor).all()
    assert (np.diagonal(factor) > 0).all()
    np.testing.assert_allclose(factor, np.triu(factor), atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_chunk_without_moments_is_rounded_to_the_nearest(value: float) -> None:
    form, rng = BLOCKS_OF_4_BITS.fitting(32), np.random.default_rng(4)
    x = rng.normal(size=(200, 32)) @ rng.normal(size=(32, 32))
    sound = x.T @ x / 200
    broken = sound.copy()
    broken[3, 5] = broken[5, 3] = value
    rows = rng.normal(size=(5, 96)).astype(np.float32)
    found: Floats = compensated_rows(rows, form, inverse_factors(np.stack([sound, broken, sound]))).dequantized(96)
    nearest = quantize_rows(rows, form).dequantized(96)
    np.testing.assert_array_equal(found[:, 32:64], nearest[:, 32:64])
    assert (found[:, :32] != nearest[:, :32]).any()


def test_the_size_of_activations_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 32)) @ rng.normal(size=(32, 32))
    moments = (x.T @ x / 200)[None]
    for size in (1e-40, 1e-80, 1e40, 1e80):
        np.testing.assert_allclose(inverse_factors(size * moments), inverse_factors(moments), rtol=1e-5, atol=1e-6)
