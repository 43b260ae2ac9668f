"""The table of formats: bytes of a matrix, what the manifest says of them, and manifests that say something else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neort
from neort.bundle import FORMATS, BlockFormat, Bundle, Cost, RowFormat, format_of, formats
from neort.wording import shortened

EditManifest = Callable[[Callable[[dict[str, Any]], None]], None]


def test_every_format_is_listed_under_its_name() -> None:
    assert [form.name for form in FORMATS.values()] == list(FORMATS)
    assert [format_of(name) for name in FORMATS] == list(FORMATS.values())
    assert format_of("int3") is None


@pytest.mark.parametrize(
    ("form", "columns", "expected"),
    [
        (RowFormat(32), 10, 40),
        (RowFormat(8), 10, 10 + 4),
        (BlockFormat(8, 256), 512, 512 + 2 * 4),
        (BlockFormat(8, 256), 192, 192 + 3 * 4),  # blocks of 64
        (BlockFormat(8, 256), 40, 64 + 2 * 4),  # two blocks of 32, padded
        (BlockFormat(4, 128, asymmetric=True), 384, 192 + 3 * 4 + 2),  # three zero points in two bytes
    ],
)
def test_a_row_takes_its_numbers_its_scales_and_its_zero_points(
    form: RowFormat | BlockFormat, columns: int, expected: int
) -> None:
    assert form.matrix_bytes(1, columns) == expected
    assert form.matrix_bytes(7, columns) == 7 * expected


@pytest.mark.parametrize("name", list(FORMATS))
def test_bytes_per_weight_are_those_of_long_rows(name: str) -> None:
    form = format_of(name)
    assert form is not None
    section, columns = form.manifest_section(), 1 << 20
    matrices = [(section, form.linear_bytes), (section["head"], form.head_bytes)]
    for facts, nbytes in [*matrices, (section["embedding"], form.embedding_bytes)]:
        assert facts["bytes_per_weight"] == pytest.approx(nbytes(1, columns) / columns, rel=1e-5)


@pytest.mark.parametrize("name", list(FORMATS))
def test_bytes_of_a_matrix_follow_from_the_section(name: str) -> None:
    form = format_of(name)
    assert form is not None
    section, rows, columns = form.manifest_section(), 7, 1536  # which blocks cut evenly
    matrices = [(section, form.linear_bytes), (section["head"], form.head_bytes)]
    for facts, nbytes in [*matrices, (section["embedding"], form.embedding_bytes)]:
        stated = rows * (columns * facts["bytes_per_weight"] + facts.get("scale_bytes_per_row", 0))
        zeros = rows * 0.5 if name == "int4" and facts is section else 0  # less than a byte of zero points per row
        assert 0 <= nbytes(rows, columns) - stated <= zeros


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_section_states_the_cost_of_the_table(name: str) -> None:
    form = format_of(name)
    assert form is not None
    assert Cost.stated(json.loads(json.dumps(form.manifest_section()))) == form.cost


@pytest.mark.parametrize(
    "cost",
    [None, [], {"run": 1}, {"run": "1", "token": 1}, {"run": -1, "token": 1}, {"run": 0, "token": 0},
     {"run": True, "token": 1}, {"run": float("inf"), "token": 1}, {"run": 0, "token": float("nan")}],
)  # fmt: skip
def test_a_cost_that_cannot_be_reckoned_with_is_none(cost: object) -> None:
    assert Cost.stated({"cost": cost}) is None
    assert Cost.stated({}) is None


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_section_survives_json_without_a_contradiction(name: str) -> None:
    form = format_of(name)
    assert form is not None
    assert form.contradictions(json.loads(json.dumps(form.manifest_section()))) == {}


def test_the_table_needs_no_other_library() -> None:
    """The benchmarks' other environments have neither numpy nor onnxruntime."""
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]);assert not {'numpy', 'onnxruntime', 'neort'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(formats.__file__)], check=True)


# Bundles


def test_a_bundle_states_the_numbers_of_its_format(bundle_path: Path) -> None:
    bundle = Bundle(bundle_path)
    assert bundle.format == FORMATS["int8"]
    assert bundle.manifest["format"] == FORMATS["int8"].manifest_section()


def test_a_bundle_without_the_numbers_loads(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda manifest: manifest.pop("format"))
    assert Bundle(bundle_copy).format == FORMATS["int8"]


@pytest.mark.parametrize(
    ("name", "fact", "found", "own"),
    [
        ("int8-block", "block_size", 64, 256),
        ("int8-block", "bytes_per_weight", 1.0625, 1.015625),
        ("int4", "asymmetric", False, True),
        ("int4", "head.block_size", 64, 256),
        ("int8", "embedding.bits", 4, 8),
        ("int8", "scale_bytes_per_row", 2, 4),
        ("int8", "head", "fp32", FORMATS["int8"].head.facts()),
    ],
)
def test_other_numbers_than_this_version_s_are_refused_with_both(
    name: str, fact: str, found: object, own: object, bundle_copy: Path, edit_manifest: EditManifest
) -> None:
    form = format_of(name)
    assert form is not None
    section = form.manifest_section()
    *outer, last = fact.split(".")
    (section[outer[0]] if outer else section)[last] = found

    def edit(manifest: dict[str, Any]) -> None:
        manifest["recipe"]["quantization"], manifest["format"] = name, section

    edit_manifest(edit)
    with pytest.raises(neort.BundleError) as caught:
        Bundle(bundle_copy)
    for part in (f"format.{fact} {found!r}", f"{name} has {shortened(own)}", "export the checkpoint again"):
        assert part in str(caught.value)


def test_a_format_s_name_is_that_of_the_quantization(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda manifest: manifest["format"].update(name="int4"))
    with pytest.raises(neort.BundleError, match=r"format.name 'int4' and recipe.quantization 'int8'"):
        Bundle(bundle_copy)


@pytest.mark.parametrize("name", [None, 8])
def test_a_quantization_without_a_name_is_refused(bundle_copy: Path, edit_manifest: EditManifest, name: object) -> None:
    edit_manifest(lambda manifest: manifest["recipe"].update(quantization=name))
    with pytest.raises(neort.BundleError, match=rf"recipe.quantization {name!r}, not a name"):
        Bundle(bundle_copy)


def test_numbers_that_this_version_has_no_name_for_are_passed_over(
    bundle_copy: Path, edit_manifest: EditManifest
) -> None:
    edit_manifest(lambda manifest: manifest["format"].update(rotated=True))
    assert Bundle(bundle_copy).manifest["format"]["rotated"]


def test_another_cost_is_no_contradiction(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    """It was measured, and may be measured better."""
    edit_manifest(lambda manifest: manifest["format"].update(cost={"run": 1.5, "token": 0.5}))
    assert Bundle(bundle_copy).stated_cost == Cost(1.5, 0.5)
    assert Bundle(bundle_copy).format == FORMATS["int8"]


def test_a_bundle_of_an_earlier_version_states_no_cost(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda manifest: manifest.pop("format"))
    assert Bundle(bundle_copy).quantization == "int8"
    assert Bundle(bundle_copy).stated_cost is None


def test_an_unknown_format_is_no_contradiction(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["recipe"]["quantization"], manifest["format"] = "int3", {"name": "int3", "bits": 3}

    edit_manifest(edit)
    assert Bundle(bundle_copy).format is None


def test_a_section_that_is_no_object_is_refused(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda manifest: manifest.update(format="int8"))
    with pytest.raises(neort.BundleError, match="no section 'format'"):
        Bundle(bundle_copy)
