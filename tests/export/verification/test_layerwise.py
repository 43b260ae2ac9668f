"""A graph run layer by layer answers as the whole graph does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx_ir as ir
import pytest

from checkpoints import NO_LIMITS, POSITIONS, random_ids, random_model, save
from neort.backend import DECODER, DecoderSession
from neort.bundle import Bundle, Quantization
from neort.engine import EngineCore
from neort.verification import batch_difference, chunk_differences
from neort.verification import check as check_without_torch
from neort_export import ExportError, Report, VerificationError, export, exporter, verify
from neort_export.checkpoint import Checkpoint
from neort_export.graph import segments
from neort_export.quantization.limits import Limits
from neort_export.reference import Reference
from neort_export.verification.agreement import chunk_logits, compare
from neort_export.verification.layerwise import LayerwiseRunner

IDS = random_ids(POSITIONS)


@pytest.fixture(scope="module", autouse=True)
def traced_once(graph: ir.Model) -> Iterator[None]:
    """Exports of ``checkpoint`` reuse its graph."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exporter, "decoder_graph", lambda _: graph.clone())
        yield


@pytest.fixture(scope="module", params=get_args(Quantization))
def bundle(request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("formats") / request.param
    return Bundle(export(checkpoint, folder, quantization=request.param, limits=NO_LIMITS).path)


@pytest.fixture(scope="module")
def unverified(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("unverified") / "bundle", verify=False).path


def layerwise(bundle: Bundle) -> LayerwiseRunner:
    return LayerwiseRunner(ir.load(bundle.file(DECODER)), bundle.spec)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "logits": lambda runner: EngineCore(runner).logits(IDS),
    "batch": lambda runner: batch_difference(runner, IDS),
    "chunks": lambda runner: chunk_differences(runner, IDS),
}


def test_answers_are_those_of_the_whole_graph_bit_for_bit(bundle: Bundle) -> None:
    runner = layerwise(bundle)
    for function in FUNCTIONS.values():
        runner.record(function)
    runner.run()
    session = DecoderSession(bundle)
    for name, function in FUNCTIONS.items():
        mine, whole = function(runner), function(session)
        assert np.array_equal(mine, whole) if name == "logits" else mine == whole, name


def test_a_sequence_is_decoded_in_a_batch_as_alone_in_every_format(bundle: Bundle) -> None:
    assert batch_difference(DecoderSession(bundle), IDS) == 0


def test_the_recorded_figures_are_those_of_the_whole_model(bundle: Bundle, checkpoint: Path) -> None:
    stored = json.loads((bundle.path / "verification.json").read_text())
    assert bundle.quantization in stored["against_torch"]
    assert stored["identity"]["batch_max_abs_diff"] == 0
    sequences = [IDS.tolist(), random_ids(40, seed=3).tolist()]
    runner = layerwise(bundle)
    runner.record(lambda r: list(chunk_logits(r, sequences)))
    runner.run()
    reference = Reference(Checkpoint(checkpoint))
    whole = compare(reference.logits(sequences), chunk_logits(DecoderSession(bundle), sequences), sequences)
    expected = reference.logit_rows(reference.hidden_states(sequences))
    assert compare(expected, chunk_logits(runner, sequences), sequences) == whole


def test_a_head_in_pieces_of_the_vocabulary_gives_the_same_logits(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "PIECE_BYTES", 64 * 32 * 4)
    bundle = Bundle(fp32_bundle)
    runner = layerwise(bundle)
    assert len(segments.cut(ir.load(bundle.file(DECODER)), bundle.spec.num_layers)[-1].pieces()) > 2
    runner.record(FUNCTIONS["logits"])
    runner.run()
    assert np.array_equal(FUNCTIONS["logits"](runner), FUNCTIONS["logits"](DecoderSession(bundle)))


def test_calls_that_were_not_recorded_are_refused(fp32_bundle: Path) -> None:
    runner = layerwise(Bundle(fp32_bundle))
    runner.record(FUNCTIONS["logits"])
    runner.run()
    with pytest.raises(ExportError, match="recorded"):
        runner.prefill(0, IDS[:5], 0, 5)


# Bundles that are verified later


def test_an_unverified_bundle_says_so_and_still_decodes(unverified: Path) -> None:
    bundle = Bundle(unverified)
    assert bundle.manifest["verified"] is False
    assert "verification.json" not in bundle.file_names
    checks = check_without_torch(unverified)
    assert all(check.passed for check in checks)
    golden = [check for check in checks if "golden" in check.name]
    assert golden
    assert all("exported without verification" in check.skipped for check in golden)


def test_verifying_later_gives_the_bundle_that_a_verified_export_gives(
    checkpoint: Path, int8_report: Report, tmp_path: Path
) -> None:
    path = export(checkpoint, tmp_path / "bundle", verify=False).path
    verify(path, checkpoint, limits=NO_LIMITS)
    verified = int8_report.path
    assert {f.name: f.read_bytes() for f in path.iterdir()} == {f.name: f.read_bytes() for f in verified.iterdir()}
    assert list(tmp_path.iterdir()) == [path]


def test_a_bundle_that_misses_the_limits_stays_as_it_was(unverified: Path, checkpoint: Path) -> None:
    before = {f.name: f.read_bytes() for f in unverified.iterdir()}
    with pytest.raises(VerificationError, match="mean KL"):
        verify(unverified, checkpoint, limits=Limits(mean_kl=1e-12))
    assert {f.name: f.read_bytes() for f in unverified.iterdir()} == before


def test_a_checkpoint_of_another_shape_is_refused(unverified: Path, tmp_path: Path) -> None:
    other = save(random_model(layers=("global",)), tmp_path / "other")
    with pytest.raises(ExportError, match="dimensions differ"):
        verify(unverified, other)
