"""A manifest's checksum of its own content: what it covers, which manifests have it, and what happens without."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neort
from neort.bundle import CHECKSUM, FORMAT_VERSION, Bundle, bundled_path, manifest_checksum

EditManifest = Callable[[Callable[[dict[str, Any]], None]], None]


def written(folder: Path, manifest: dict[str, Any], **how: Any) -> Path:
    (folder / "manifest.json").write_text(json.dumps(manifest, **how), encoding="utf-8")
    return folder


@pytest.fixture
def manifest() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundled_path() / "manifest.json").read_text(encoding="utf-8"))
    return content


def test_the_bundled_manifest_is_of_this_version_and_has_its_checksum(manifest: dict[str, Any]) -> None:
    assert manifest["format_version"] == FORMAT_VERSION
    assert manifest[CHECKSUM] == manifest_checksum(manifest)


@pytest.mark.parametrize("how", [{}, {"indent": 4}, {"sort_keys": True}, {"ensure_ascii": False}], ids=str)
def test_how_a_manifest_is_written_does_not_matter(how: Any, manifest: dict[str, Any], bundle_copy: Path) -> None:
    assert Bundle(written(bundle_copy, manifest, **how)).manifest == manifest


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [("model", "window_size", 120), ("model", "architecture", "gpt_nea"), ("recipe", "weights", "other"),
     ("source", "name", "x"), ("tools", "torch", "9"), ("format", "bits", 8.0)],
)  # fmt: skip
def test_a_manifest_of_which_anything_was_changed_is_refused(
    section: str, name: str, value: object, manifest: dict[str, Any], bundle_copy: Path
) -> None:
    before = manifest[CHECKSUM]
    manifest[section][name] = value
    with pytest.raises(neort.BundleError) as caught:
        Bundle(written(bundle_copy, manifest))
    for part in (str(bundle_copy / "manifest.json"), before, manifest_checksum(manifest), "copy or export the bundle"):
        assert part in str(caught.value)


def test_no_flipped_bit_of_the_manifest_gives_another_manifest(manifest: dict[str, Any], bundle_copy: Path) -> None:
    file = bundle_copy / "manifest.json"
    sound = file.read_bytes()
    chance = random.Random(0)
    for _ in range(300):
        damaged = bytearray(sound)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        with contextlib.suppress(neort.BundleError):
            assert Bundle(bundle_copy).manifest == manifest


def test_a_manifest_of_this_version_must_have_the_checksum(manifest: dict[str, Any], bundle_copy: Path) -> None:
    manifest["sha257"] = manifest.pop(CHECKSUM)
    with pytest.raises(neort.BundleError, match=r"format_version 3 and no sha256 of its own.*it was changed; copy or"):
        Bundle(written(bundle_copy, manifest))


def test_a_manifest_of_the_version_before_loads_without(manifest: dict[str, Any], bundle_copy: Path) -> None:
    del manifest[CHECKSUM]
    manifest["format_version"] = 2
    assert Bundle(written(bundle_copy, manifest)).spec.num_layers == 6


def test_a_manifest_of_the_version_before_that_has_one_is_compared_with_it(
    manifest: dict[str, Any], bundle_copy: Path
) -> None:
    manifest["format_version"] = 2
    with pytest.raises(neort.BundleError, match="its own sha256"):
        Bundle(written(bundle_copy, manifest))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [[]] * 3, "\ud800", 10**400, None])
def test_a_strange_value_is_a_sentence(value: object, manifest: dict[str, Any], bundle_copy: Path) -> None:
    for change in ({"verified": value}, {CHECKSUM: value}, {"format_version": value}):
        with pytest.raises(neort.BundleError) as caught:
            Bundle(written(bundle_copy, {**manifest, **change}))
        str(caught.value).encode()
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["\ud800", "x" * 300, "a\nb", "\u202e"], ids=ascii)
def test_a_file_name_that_cannot_be_shown_is_refused(name: str, edit_manifest: EditManifest, bundle_copy: Path) -> None:
    edit_manifest(lambda manifest: manifest["files"].update({name: {"bytes": 1, "sha256": "0" * 64}}))
    with pytest.raises(neort.BundleError, match="names must be plain") as caught:
        Bundle(bundle_copy)
    str(caught.value).encode()


@pytest.mark.parametrize(
    "facts",
    [{"bytes": True}, {"bytes": -1}, {"bytes": 1 << 63}, {"bytes": 1.0}, {"sha256": "0"}, {"sha256": "\ud800" * 64},
     {"sha256": "A" * 64}],
    ids=ascii,
)  # fmt: skip
def test_file_facts_that_no_file_has_are_refused(
    facts: dict[str, Any], edit_manifest: EditManifest, bundle_copy: Path
) -> None:
    edit_manifest(lambda manifest: manifest["files"]["weights.data"].update(facts))
    with pytest.raises(neort.BundleError, match=r"'weights\.data'"):
        Bundle(bundle_copy)
