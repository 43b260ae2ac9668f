"""Bundles that are missing, damaged, tampered with or foreign: each is refused, in words that name the remedy."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neort
import neort_models
from neort.bundle import FORMAT_VERSION, Bundle, sha256_of
from neort.verification import check

EditManifest = Callable[[Callable[[dict[str, Any]], None]], None]
ReplaceFile = Callable[[str, bytes], None]


def refusal(path: str | os.PathLike[str], **options: Any) -> str:
    """The message with which `neort.load` refuses a bundle."""
    with pytest.raises(neort.BundleError) as caught:
        neort.load(path, num_threads=1, **options)
    return str(caught.value)


def assert_names(message: str, *parts: object) -> None:
    missing = [str(part) for part in parts if str(part) not in message]
    assert not missing, f"{message!r} does not mention {missing}"


# What is sound


def test_a_bundle_states_its_model_and_its_files(bundle_path: Path) -> None:
    bundle = Bundle(bundle_path, check_weights=True)
    assert bundle.spec.vocab_size == 4096
    assert (bundle.spec.max_position_embeddings, bundle.spec.window_size) == (512, 128)
    assert bundle.spec.attention_layers == ("global", "local") * 3
    assert bundle.quantization == "int8"
    assert {"decoder.onnx", "weights.data", "tokenizer.json"} <= set(bundle.file_names)
    unlisted = {"manifest.json", "README.md"}
    assert set(bundle.file_names) | unlisted == {file.name for file in bundle_path.iterdir()}


def test_the_manifest_holds_every_hash(bundle_path: Path) -> None:
    bundle = Bundle(bundle_path)
    assert {name: sha256_of(bundle.file(name)) for name in bundle.file_names} == {
        name: facts["sha256"] for name, facts in bundle.manifest["files"].items()
    }


def test_a_copy_loads_from_a_string_a_path_and_the_home_folder(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(bundle_copy.parent))
    monkeypatch.setenv("USERPROFILE", str(bundle_copy.parent))
    for path in (str(bundle_copy), bundle_copy, f"~/{bundle_copy.name}"):
        assert Bundle(path).path == bundle_copy


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_a_bundle_of_links_loads_as_a_hub_cache_has_it(bundle_path: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    shutil.copytree(bundle_path, blobs)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert neort.load(snapshot, num_threads=1).generate("The", max_new_tokens=2).stats.new_tokens == 2


def test_a_file_that_the_manifest_does_not_list_is_refused(bundle_path: Path) -> None:
    with pytest.raises(neort.BundleError, match=r"lists no file 'absent.onnx'.*export the bundle again"):
        Bundle(bundle_path).file("absent.onnx")


# Folders that are no bundle


@pytest.mark.parametrize("name", ["absent", "a file"])
def test_a_path_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").touch()
    assert_names(refusal(tmp_path / name), tmp_path / name, "is not a folder", "neort-export")


def test_a_checkpoint_is_refused_with_the_hint_to_export_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert_names(refusal(tmp_path), tmp_path, "no manifest.json", "checkpoint", "run neort-export on it")


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    assert_names(refusal(tmp_path), tmp_path, "no manifest.json", "make one with neort-export")


@pytest.mark.skipif(os.name != "posix", reason="home folders of other users are POSIX")
def test_the_home_folder_of_nobody_is_refused() -> None:
    assert_names(refusal("~no_such_user/bundle"), "~no_such_user")


def test_an_installation_without_the_bundled_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEORT_MODEL")
    monkeypatch.setattr(neort_models, "_BUNDLED", tmp_path)
    with pytest.raises(neort.BundleError, match="no bundled model"):
        neort.load()


# Manifests


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"format_version": 1', b"\xff\xfe", "[" * 100_000],
    ids=["empty", "cut", "cut later", "no UTF-8", "deep"],
)
def test_a_manifest_that_is_no_json_is_refused(bundle_copy: Path, text: str | bytes) -> None:
    file = bundle_copy / "manifest.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_names(refusal(bundle_copy), file, "cannot be read as JSON", "copy or export the bundle again")


@pytest.mark.parametrize(("value", "kind"), [([], "list"), (3, "int"), (None, "NoneType")])
def test_a_manifest_that_is_no_object_is_refused(bundle_copy: Path, value: object, kind: str) -> None:
    (bundle_copy / "manifest.json").write_text(json.dumps(value))
    assert_names(refusal(bundle_copy), f"holds {kind}, not an object", "export the bundle again")


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, "1", None])
def test_another_format_version_is_refused(bundle_copy: Path, edit_manifest: EditManifest, version: object) -> None:
    edit_manifest(lambda manifest: manifest.update(format_version=version))
    message = refusal(bundle_copy)
    assert_names(message, f"format_version {version!r}", "this neort reads 2 and 3", "update neort", "export")


@pytest.mark.parametrize("section", ["files", "model", "recipe"])
@pytest.mark.parametrize("value", [None, []])
def test_a_missing_section_is_refused(
    bundle_copy: Path, edit_manifest: EditManifest, section: str, value: object
) -> None:
    edit_manifest(lambda manifest: manifest.update({section: value}))
    assert_names(refusal(bundle_copy), f"no section '{section}'", "export the bundle again")


@pytest.mark.parametrize(
    "name", ["vocab_size", "num_layers", "head_dim", "max_position_embeddings", "attention_layers"]
)
def test_a_missing_model_field_is_refused(bundle_copy: Path, edit_manifest: EditManifest, name: str) -> None:
    edit_manifest(lambda manifest: manifest["model"].pop(name))
    assert_names(refusal(bundle_copy), f"lacks model.{name}", "export the bundle again")


@pytest.mark.parametrize(
    ("name", "value"),
    [("vocab_size", "4096"), ("num_layers", 0), ("attention_layers", 3)],
)
def test_a_model_field_of_another_type_is_refused(
    bundle_copy: Path, edit_manifest: EditManifest, name: str, value: object
) -> None:
    edit_manifest(lambda manifest: manifest["model"].update({name: value}))
    assert_names(refusal(bundle_copy), name, "export the bundle again")


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/passwd", "..", ".", "", "a\\b", "a/", "a\0b"], ids=ascii)
def test_a_file_name_that_is_a_path_is_refused(
    bundle_copy: Path, edit_manifest: EditManifest, name: str, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(b"outside")
    target = bundle_copy / name.replace("\0", "")
    size = target.stat().st_size if target.exists() else 7
    edit_manifest(lambda manifest: manifest["files"].update({name: {"bytes": size, "sha256": "0" * 64}}))
    assert_names(refusal(bundle_copy), repr(name), "names must be plain")


@pytest.mark.parametrize(
    "facts",
    [None, [], {"bytes": 1}, {"sha256": "0"}, {"bytes": "263", "sha256": "0"}],
    ids=str,
)
def test_file_facts_of_another_shape_are_refused(bundle_copy: Path, edit_manifest: EditManifest, facts: object) -> None:
    edit_manifest(lambda manifest: manifest["files"].update({"tokenizer.json": facts}))
    assert_names(refusal(bundle_copy), "tokenizer.json", "bytes")


@pytest.mark.parametrize("name", ["decoder.onnx", "tokenizer.json", "generation_config.json", "weights.data"])
def test_a_file_that_the_runtime_needs_must_be_listed(
    bundle_copy: Path, edit_manifest: EditManifest, name: str
) -> None:
    edit_manifest(lambda manifest: manifest["files"].pop(name))
    assert_names(refusal(bundle_copy), name, "export the bundle again")


# Files


@pytest.mark.parametrize("name", ["weights.data", "decoder.onnx", "tokenizer.json", "verification.json"])
def test_a_missing_file_is_refused(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    assert_names(refusal(bundle_copy), bundle_copy, f"lacks {name}", "copy or export it again")


def test_truncated_weights_are_refused(bundle_copy: Path) -> None:
    file = bundle_copy / "weights.data"
    size = file.stat().st_size
    os.truncate(file, size - 1)
    assert_names(refusal(bundle_copy), file, f"{size - 1:,} bytes", f"{size:,}", "truncated", "copy or export")


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "decoder.onnx", "generation_config.json"])
def test_a_changed_file_is_refused(bundle_copy: Path, name: str) -> None:
    flip_a_byte(bundle_copy / name)
    assert_names(refusal(bundle_copy), bundle_copy / name, "sha256", "damaged or was changed", "copy or export")


def flip_a_byte(file: Path) -> None:
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)


def test_a_changed_weight_is_found_with_check_weights_only(bundle_copy: Path) -> None:
    flip_a_byte(bundle_copy / "weights.data")
    neort.load(bundle_copy, num_threads=1)
    message = refusal(bundle_copy, check_weights=True)
    assert_names(message, bundle_copy / "weights.data", "sha256", "copy or export the bundle again")


def test_a_changed_weight_is_found_by_verify(bundle_copy: Path) -> None:
    flip_a_byte(bundle_copy / "weights.data")
    with pytest.raises(neort.BundleError, match=r"weights\.data does not match the sha256"):
        check(bundle_copy)


def test_check_weights_accepts_a_sound_bundle(bundle_path: Path) -> None:
    assert neort.load(bundle_path, num_threads=1, check_weights=True).spec.num_layers == 6


# Graphs


def test_a_graph_that_is_no_protobuf_message_is_refused(bundle_copy: Path, replace_file: ReplaceFile) -> None:
    replace_file("decoder.onnx", b"no protobuf")
    assert_names(refusal(bundle_copy), bundle_copy / "decoder.onnx", "is no ONNX model", "export the bundle again")


@pytest.mark.parametrize("contents", [b"", bytes(1000)], ids=["empty", "zeros"])
def test_a_graph_without_inputs_is_refused(bundle_copy: Path, replace_file: ReplaceFile, contents: bytes) -> None:
    replace_file("decoder.onnx", contents)
    assert_names(refusal(bundle_copy), bundle_copy / "decoder.onnx", "no input input_ids", "export the bundle again")


@pytest.mark.parametrize("name", [b"MatMulIntegerToDoubl", b"Ma\xa0MulIntegerToFloat"], ids=ascii)
def test_a_graph_that_onnxruntime_cannot_load_is_refused_without_a_word_on_standard_output(
    bundle_copy: Path, replace_file: ReplaceFile, name: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = (bundle_copy / "decoder.onnx").read_bytes()
    replace_file("decoder.onnx", graph.replace(b"\x14MatMulIntegerToFloat", b"\x14" + name, 1))
    assert_names(refusal(bundle_copy), bundle_copy / "decoder.onnx")
    assert capfd.readouterr().out == ""


def test_weights_outside_the_bundle_are_refused(bundle_copy: Path, replace_file: ReplaceFile) -> None:
    graph = (bundle_copy / "decoder.onnx").read_bytes()
    outside = bundle_copy.parent / "evil.data"
    shutil.copy(bundle_copy / "weights.data", outside)
    location = b"../evil.data"
    assert len(location) == len(b"weights.data")  # so that the protobuf message stays well-formed
    replace_file("decoder.onnx", graph.replace(b"weights.data", location))
    assert_names(refusal(bundle_copy), bundle_copy / "decoder.onnx")


def test_the_same_weights_under_another_name_inside_the_bundle_would_load(
    bundle_copy: Path, replace_file: ReplaceFile
) -> None:
    """That the refusal above is due to the place, not to the way in which the graph was changed."""
    graph = (bundle_copy / "decoder.onnx").read_bytes()
    replace_file("renamed.data", (bundle_copy / "weights.data").read_bytes())
    replace_file("decoder.onnx", graph.replace(b"weights.data", b"renamed.data"))
    assert neort.load(bundle_copy, num_threads=1).generate("The", max_new_tokens=2).stats.new_tokens == 2


def test_weights_in_a_file_that_the_manifest_does_not_list_are_refused(
    bundle_copy: Path, replace_file: ReplaceFile
) -> None:
    graph = (bundle_copy / "decoder.onnx").read_bytes()
    shutil.copy(bundle_copy / "weights.data", bundle_copy / "renamed.data")
    replace_file("decoder.onnx", graph.replace(b"weights.data", b"renamed.data"))
    assert_names(refusal(bundle_copy), "'renamed.data'", "the manifest does not list")


def test_weights_at_an_absolute_path_are_refused(bundle_copy: Path, replace_file: ReplaceFile) -> None:
    onnx = pytest.importorskip("onnx")
    outside = bundle_copy.parent / "evil.data"
    shutil.copy(bundle_copy / "weights.data", outside)
    graph = onnx.load(bundle_copy / "decoder.onnx", load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(outside)
    replace_file("decoder.onnx", graph.SerializeToString())
    assert_names(refusal(bundle_copy), bundle_copy / "decoder.onnx")


@pytest.mark.parametrize(
    "facts",
    [
        {"num_layers": 3, "attention_layers": ["global"] * 3},
        {"num_layers": 7, "attention_layers": ["global"] * 7},
        {"num_heads": 12},
        {"head_dim": 16},
        {"vocab_size": 5000},
    ],
    ids=lambda facts: next(iter(facts)) + str(next(iter(facts.values()))),
)
def test_a_manifest_that_contradicts_the_graph_is_refused(
    bundle_copy: Path, edit_manifest: EditManifest, facts: dict[str, Any]
) -> None:
    edit_manifest(lambda manifest: manifest["model"].update(facts))
    assert_names(refusal(bundle_copy), "decoder.onnx", "export")


# Numbers


def test_weights_that_are_nan_give_a_logits_error(bundle_copy: Path) -> None:
    """Bytes of ones are NaN as scales, and the size is right: only the logits tell."""
    weights = bundle_copy / "weights.data"
    weights.write_bytes(b"\xff" * weights.stat().st_size)
    model = neort.load(bundle_copy, num_threads=1)
    with pytest.raises(neort.LogitsError, match=r"position 1 hold NaN.*neort verify"):
        model.generate("The", max_new_tokens=2)
    with pytest.raises(neort.LogitsError, match="NaN"):
        list(model.stream("The", max_new_tokens=2))
    assert np.isnan(model.logits([1])).any()
