"""Whether int8 products saturate: the answer, and what the session does with it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import neort
from neort.backend import DecoderSession, options, plain_options, run_with
from neort.backend import int8_products as cpu
from neort.bundle import Bundle
from neort.engine import EngineCore
from releases import CONVERTS_WEIGHTS

IDS = np.arange(40, dtype=np.int64)


def exact(model: bytes, feeds: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """A processor with exact products."""
    return ((feeds["activations"].astype(np.int64) - 128) @ cpu.weights().astype(np.int64)).astype(np.float32)


def saturating(model: bytes, feeds: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """A processor that sums pairs of products in 16 bits, as vpmaddubsw does."""
    weights = cpu.weights().astype(np.int64)
    products = feeds["activations"].astype(np.int64)[:, :, None] * weights  # [M, K, N]
    pairs = np.clip(products[:, 0::2] + products[:, 1::2], -(2**15), 2**15 - 1)
    return np.asarray(pairs.sum(axis=1) - 128 * weights.sum(axis=0), np.float32)


def saturating_in(rows: int) -> cpu.Run:
    return lambda model, feeds: (saturating if len(feeds["activations"]) == rows else exact)(model, feeds)


def failing(model: bytes, feeds: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    raise RuntimeError("no such operator")


def test_exact_products_do_not_saturate() -> None:
    assert not cpu.int8_products_saturate(exact)


@pytest.mark.parametrize("run", [saturating, *map(saturating_in, cpu.ROW_COUNTS)])
def test_pairs_summed_in_16_bits_saturate_with_any_number_of_rows(run: cpu.Run) -> None:
    assert cpu.int8_products_saturate(run)


def test_where_the_product_cannot_be_computed_it_is_taken_to_saturate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cpu.int8_products_saturate(failing)
    monkeypatch.setattr(cpu, "PROBE", tmp_path / "missing.onnx")
    assert cpu.int8_products_saturate(exact)


def test_onnxruntime_runs_the_probe() -> None:
    for rows in cpu.ROW_COUNTS:
        product = run_with(plain_options(1))(cpu.PROBE.read_bytes(), cpu._feeds(rows))
        assert product.shape == (rows, cpu.COLUMNS)


def test_the_probes_are_what_their_script_writes() -> None:
    pytest.importorskip("onnx", reason="onnx writes the probes")
    from probe_model import PROBES

    for file, build in PROBES.items():
        assert file.read_bytes() == build()


def test_unsigned_weights_give_the_same_logits(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor without saturation, setting and fusions change no bit."""
    expected = logits(bundle_path)
    used: list[Any] = []
    monkeypatch.setattr(options, "_use_unsigned_weights", spy(options._use_unsigned_weights, used))
    answer_first(monkeypatch, saturates=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", neort.PrecisionWarning)  # an older onnxruntime
        assert np.array_equal(logits(bundle_path), expected)
    assert len(used) == 1


@pytest.mark.parametrize("version", ["1.24.2", "1.29.1"])
def test_an_onnxruntime_that_cannot_convert_the_weights_is_a_warning(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    answer_first(monkeypatch, saturates=True)
    monkeypatch.setattr("onnxruntime.__version__", version)
    with pytest.warns(neort.PrecisionWarning, match=rf"onnxruntime {version}.*update onnxruntime to 1\.30"):
        DecoderSession(Bundle(bundle_path), num_threads=1)


@pytest.mark.skipif(not CONVERTS_WEIGHTS, reason="an older onnxruntime aborts when it is told to convert the weights")
def test_a_setting_without_effect_is_a_warning(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "int8_products_saturate", lambda run: True)
    monkeypatch.setattr("onnxruntime.__version__", "1.32.0")
    with pytest.warns(neort.PrecisionWarning, match="16 bits"):
        DecoderSession(Bundle(bundle_path), num_threads=1)


def test_a_graph_without_int8_products_asks_nothing(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(options, "int8_products_saturate", spy(lambda run: False, asked))
    DecoderSession(Bundle(bundle_path), num_threads=1)
    assert len(asked) == 1
    monkeypatch.setattr(options, "INT8_PRODUCT", b"an operator of other formats")
    DecoderSession(Bundle(bundle_path), num_threads=1)
    assert len(asked) == 1


def logits(path: Path) -> NDArray[np.float32]:
    return EngineCore(DecoderSession(Bundle(path), num_threads=1)).logits(IDS)


def answer_first(monkeypatch: pytest.MonkeyPatch, *, saturates: bool) -> None:
    """Let the first question be answered so, and later ones, about the remedy, by the processor."""
    answers = iter([saturates])
    ask = cpu.int8_products_saturate
    monkeypatch.setattr(options, "int8_products_saturate", lambda run: next(answers, None) or ask(run))


def spy(function: Any, calls: list[Any]) -> Any:
    def wrapper(*arguments: Any) -> Any:
        calls.append(arguments)
        return function(*arguments)

    return wrapper
