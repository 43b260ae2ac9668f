"""The manifest's numbers of a format are those of the graph beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from neort.backend import DECODER
from neort.bundle import FORMAT_VERSION, FORMATS, BlockFormat, Bundle, Quantization, manifest_checksum
from neort_export import export
from neort_export.bundle.manifest import with_checksum

Replace = Callable[[str, object], None]
HEAD = "lm_head/"


def export_as(quantization: Quantization, checkpoint: Path, target: Path) -> tuple[dict[str, Any], ir.Graph]:
    """The manifest's ``format`` section and the graph of an export."""
    bundle = export(checkpoint, target, quantization=quantization, verify=False).path
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return manifest["format"], ir.load(bundle / DECODER).graph


def integer(node: ir.Node, name: str) -> int:
    return node.attributes[name].as_int()


@pytest.mark.parametrize("quantization", ["int8-block", "int4"])
def test_blocks_are_as_long_as_the_manifest_says_or_fit_the_columns(
    quantization: Quantization, exporter: Replace, checkpoint: Path, tmp_path: Path
) -> None:
    section, graph = export_as(quantization, checkpoint, tmp_path / "bundle")
    products = [node for node in graph if node.op_type == "MatMulNBits"]
    assert len(products) == 2 * 4 + 1  # two layers and lm_head
    for node in products:
        facts = section["head"] if str(node.name).startswith(HEAD) else section
        form = BlockFormat(facts["bits"], facts["block_size"], facts["asymmetric"])
        assert integer(node, "bits") == form.bits
        assert integer(node, "block_size") == form.fitting(integer(node, "K")).size
        assert (node.inputs[3] is not None) == form.asymmetric


@pytest.mark.parametrize(("quantization", "operator"), [("int8", "MatMulIntegerToFloat"), ("fp32", "Gemm")])
def test_formats_without_blocks_have_no_block_size(
    quantization: Quantization, operator: str, exporter: Replace, checkpoint: Path, tmp_path: Path
) -> None:
    section, graph = export_as(quantization, checkpoint, tmp_path / "bundle")
    assert section == FORMATS[quantization].manifest_section()
    assert section["block_size"] is section["head"]["block_size"] is None
    assert operator in {node.op_type for node in graph}
    assert Bundle(tmp_path / "bundle").format is FORMATS[quantization]


def test_an_exported_manifest_has_its_checksum(exporter: Replace, checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(checkpoint, tmp_path / "bundle", quantization="int8", verify=False).path
    manifest = Bundle(bundle).manifest
    assert manifest["format_version"] == FORMAT_VERSION
    assert manifest["sha256"] == manifest_checksum(manifest)


def test_a_manifest_of_the_version_before_becomes_one_of_this_version_by_its_checksum() -> None:
    old = {"format_version": 2, "model": {"window_size": 128}}
    new = with_checksum(old)
    assert new == {**old, "format_version": FORMAT_VERSION, "sha256": manifest_checksum(new)}
    assert with_checksum(new) == new
