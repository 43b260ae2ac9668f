"""A graph run layer by layer answers as the whole graph does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import RemoveUnusedNodesPass

from checkpoints import NO_LIMITS, POSITIONS, random_ids, random_model, save
from neort.arrays import Logits
from neort.backend import DECODER, DecoderSession
from neort.backend import runner as runner_module
from neort.bundle import MANIFEST, Bundle, Quantization, sha256_of
from neort.engine import EngineCore
from neort.runner import ModelRunner
from neort.verification import batch_difference, chunk_differences, prompts_difference
from neort.verification import check as check_without_torch
from neort_export import ExportError, Report, VerificationError, export, exporter, verify
from neort_export.bundle.manifest import with_checksum, write_json
from neort_export.checkpoint import Checkpoint
from neort_export.cli.measures import figures
from neort_export.graph import segments
from neort_export.graph.rewrite import add_node
from neort_export.quantization.limits import Limits
from neort_export.reference import Reference
from neort_export.verification import measure as measures
from neort_export.verification.agreement import chunk_logits, compare
from neort_export.verification.layerwise import LayerwiseRunner

IDS = random_ids(POSITIONS)
PROMPTS = [IDS[:30], IDS[5:9], IDS[20:60]]


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


def rows_of_prompts(runner: ModelRunner) -> Logits:
    runner.reserve(len(PROMPTS), [])
    return runner.prefill_prompts(0, PROMPTS, 7)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "logits": lambda runner: EngineCore(runner).logits(IDS),
    "batch": lambda runner: batch_difference(runner, IDS),
    "chunks": lambda runner: chunk_differences(runner, IDS),
    "prompts": lambda runner: prompts_difference(runner, IDS),
    "rows of prompts": rows_of_prompts,
}


def test_answers_are_those_of_the_whole_graph_bit_for_bit(bundle: Bundle) -> None:
    runner = layerwise(bundle)
    for function in FUNCTIONS.values():
        runner.record(function)
    runner.run()
    session = DecoderSession(bundle)
    for name, function in FUNCTIONS.items():
        mine, whole = function(runner), function(session)
        assert np.array_equal(mine, whole), name


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


# Prompts that share a run


def of_an_earlier_version(bundle: Bundle, folder: Path) -> Bundle:
    """The bundle with a decoder whose rows of logits end at the run's last place."""
    shutil.copytree(bundle.path, folder)
    model = ir.load(folder / DECODER)
    graph = model.graph
    last = next(node for node in graph if node.op_type == "GatherND")
    values = {value.name: value for node in graph for value in node.outputs}
    length, kept = values["sequence_length"], values["kept"]
    start = add_node(last, "Sub", [length, kept], name="first_kept")
    rows = add_node(last, "Slice", [last.inputs[0], start, length, graph.initializers["axis_1"]], name="rows_of_run")
    ir.convenience.replace_all_uses_with(last.outputs[0], rows)
    RemoveUnusedNodesPass()(model)
    rows.name = "last_by_sequence"
    ir.save(model, folder / DECODER)
    manifest = json.loads((folder / MANIFEST).read_text())
    size = (folder / DECODER).stat().st_size
    manifest["files"][DECODER] = {"bytes": size, "sha256": sha256_of(folder / DECODER)}
    write_json(folder / MANIFEST, with_checksum(manifest))
    return Bundle(folder)


def test_prompts_get_their_own_last_rows_from_graphs_of_earlier_versions_too(bundle: Bundle, tmp_path: Path) -> None:
    earlier = of_an_earlier_version(bundle, tmp_path / "earlier")
    old, new = (rows_of_prompts(DecoderSession(each, num_threads=1)) for each in (earlier, bundle))
    np.testing.assert_array_equal(old, new)
    runner = layerwise(earlier)
    runner.record(rows_of_prompts)
    runner.run()
    np.testing.assert_array_equal(rows_of_prompts(runner), new)
    assert prompts_difference(DecoderSession(earlier), IDS) == 0


def test_many_rows_of_an_earlier_graph_are_not_computed_for_a_few(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompts are run one by one then."""
    earlier = of_an_earlier_version(Bundle(fp32_bundle), tmp_path / "earlier")
    session = DecoderSession(earlier, num_threads=1)
    session.reserve(3, [])
    expected = session.prefill_prompts(0, PROMPTS, 1)
    monkeypatch.setattr(runner_module, "MOST_NUMBERS", 10)
    monkeypatch.setattr(session, "_run_prompts", None)
    np.testing.assert_array_equal(session.prefill_prompts(0, PROMPTS, 1), expected)


def test_a_bundle_whose_prompts_get_other_bits_together_says_so(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "prompts_difference", lambda runner, token_ids: 0.5)
    report = export(checkpoint, tmp_path / "bundle", limits=NO_LIMITS)
    assert report.verification is not None
    said = "\n".join(figures(report.path, report.verification))
    assert "up to 0.5, which must be 0: neort will run them one by one" in said
    bundle = Bundle(report.path)
    assert not bundle.prompts_together
    assert bundle.read_json("verification.json")["identity"]["prompts_max_abs_diff"] == 0.5
    monkeypatch.undo()
    verify(report.path, checkpoint, limits=NO_LIMITS)
    assert Bundle(report.path).prompts_together
