"""Outlier channels, as large trained models have them: folded, int8 keeps its quality; unfolded, it does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import RemoveUnusedNodesPass
from transformers import GPTNeoForCausalLM

from benchmarks.checkpoints.outliers import with_outliers
from checkpoints import (
    POSITIONS,
    Floats,
    mean_kl_and_perplexity_ratio,
    random_ids,
    random_model,
    save,
    session_of,
    torch_logits,
)
from neort.backend import DecoderSession
from neort.bundle import Bundle
from neort.engine import EngineCore
from neort.tokenizer import Tokenizer
from neort.verification import batch_difference
from neort_export import export, exporter
from neort_export.checkpoint import Checkpoint
from neort_export.graph import decoder_graph, quantize
from neort_export.graph.passes import QuantizeEmbedding, QuantizeLinears
from neort_export.quantization.limits import STRICT_LIMITS
from neort_export.reference import Reference, calibrate

LIMITS = STRICT_LIMITS["int8"]
Sequences = Sequence[Sequence[int]]


def logits_of(session: DecoderSession, sequences: Sequences) -> list[Floats]:
    engine = EngineCore(session)
    return [engine.logits(np.asarray(ids, np.int64)) for ids in sequences]


def plainly_quantized(graph: ir.Model) -> ir.Model:
    """Per-token int8 without folding."""
    plain = graph.clone()
    for rewrite in (QuantizeLinears(), QuantizeEmbedding(), RemoveUnusedNodesPass()):
        rewrite(plain)
    return plain


def test_folding_undoes_outliers_of_a_random_model(tmp_path: Path) -> None:
    """Logits' error: at least 5 times smaller folded than plain, and hardly larger than without outliers."""
    model = random_model(layers=("local", "global", "local"), hidden_size=64)
    twin = with_outliers(model)
    sequences = [random_ids(POSITIONS, 311, seed=seed).tolist() for seed in (1, 2)]
    calibration = [random_ids(POSITIONS, 311, seed=seed).tolist() for seed in (8, 9)]
    expected = [torch_logits(model, ids) for ids in sequences]

    def error(session: DecoderSession) -> float:
        return float(np.std(np.concatenate(logits_of(session, sequences)) - np.concatenate(expected)))

    errors = {}
    for name, one in (("original", model), ("outliers", twin)):
        source = Checkpoint(save(one, tmp_path / name))
        bundle = tmp_path / f"{name}-bundle"
        if not bundle.exists():
            export(source.path, bundle, quantization="fp32", verify=False)
        graph = decoder_graph(source)
        errors[f"{name}, plain"] = error(session_of(plainly_quantized(graph), bundle, tmp_path / f"{name}-plain"))
        quantize(graph, calibrate(Reference(source), calibration)[0])
        errors[f"{name}, folded"] = error(session_of(graph, bundle, tmp_path / f"{name}-folded"))
    assert errors["outliers, folded"] < errors["outliers, plain"] / 5, errors
    assert errors["outliers, folded"] < 1.5 * errors["original, plain"], errors


@pytest.fixture(scope="module")
def outliers(neo_mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """neo-mini's function with outlier channels, head untied."""
    folder = tmp_path_factory.mktemp("outliers") / "checkpoint"
    with_outliers(GPTNeoForCausalLM.from_pretrained(neo_mini)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((neo_mini / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def text(neo_mini: Path, books: str) -> Sequences:
    """2048 tokens of unseen books, in sequences of four windows."""
    ids = Tokenizer.from_file(neo_mini / "tokenizer.json").encode(books[:40_000])[:2048]
    return [ids[i : i + 512] for i in range(0, 2048, 512)]


@pytest.fixture(scope="module")
def expected(neo_mini: Path, text: Sequences) -> list[Floats]:
    reference = GPTNeoForCausalLM.from_pretrained(neo_mini).eval()
    return [torch_logits(reference, ids) for ids in text]


def test_the_checkpoint_with_outliers_is_the_same_function(
    outliers: Path, text: Sequences, expected: list[Floats]
) -> None:
    twin = GPTNeoForCausalLM.from_pretrained(outliers).eval()
    assert not twin.config.tie_word_embeddings
    for ids, logits in zip(text[:2], expected, strict=False):
        np.testing.assert_allclose(torch_logits(twin, ids), logits, rtol=0, atol=1e-3)


def test_folded_int8_meets_the_limits_that_plain_int8_misses_tenfold(
    outliers: Path, text: Sequences, expected: list[Floats], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter calibrates on its own text and is measured on books that it has not seen."""
    graph = decoder_graph(Checkpoint(outliers))
    monkeypatch.setattr(exporter, "decoder_graph", lambda _: graph.clone())
    bundle = export(outliers, tmp_path / "bundle", verify=False).path
    session = DecoderSession(Bundle(bundle))
    folded = logits_of(session, text)
    plain = logits_of(session_of(plainly_quantized(graph), bundle, tmp_path / "plain"), text)
    folded_kl, folded_ratio = mean_kl_and_perplexity_ratio(expected, folded, text)
    plain_kl, plain_ratio = mean_kl_and_perplexity_ratio(expected, plain, text)
    figures = (
        f"mean KL: folded {folded_kl:.2e}, plain {plain_kl:.2e}; "
        f"perplexity ratio: folded {folded_ratio:.5f}, plain {plain_ratio:.5f}"
    )
    assert folded_kl <= LIMITS.mean_kl, figures
    assert folded_ratio <= LIMITS.perplexity_ratio, figures
    assert plain_kl >= 10 * LIMITS.mean_kl, figures
    assert batch_difference(session, np.array(text[0][:300])) == 0
