"""The folder that a hub repository is: a folder for each format, one card, what git keeps apart, and one command."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import neort
from loopback_hub import Repository, running_hub
from neort.bundle import FORMATS, Quantization, bundled_path
from neort.errors import BundleError, ConfigError
from neort.pulling import pull
from neort_export import ExportError
from neort_export.bundle.manifest import with_checksum
from neort_export.cli import main
from neort_export.repository import write_repository

Make = Callable[..., Path]
CARD = """\
---
library_name: neort
pipeline_tag: text-generation
license: mit
language: [no, en]
base_model: owner/base
base_model_relation: quantized
inference: false
tags: [gpt_neo, onnx, {form}]
---

# `tiny`, {form}, for CPUs

About it.

## Licence

That of the original, by its own card: mit.

## Format

{form}: weights.

## Figures

<!-- neort: figures -->
old
<!-- neort: end of figures -->

## My own

```python
# Not a heading
## Not this
```

## How to run it

With BUNDLE.
"""


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Bundles of one model; only the int8 one would run."""

    def make(form: Quantization = "int8", card: str | None = CARD, name: str = "", **changes: Any) -> Path:
        folder = Path(shutil.copytree(bundled_path(), tmp_path / (name or form)))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        manifest["recipe"]["quantization"] = form
        manifest["format"] = FORMATS[form].manifest_section()
        manifest |= changes
        (folder / "manifest.json").write_text(json.dumps(with_checksum(manifest)), encoding="utf-8")
        (folder / "README.md").unlink()
        if card is not None:
            (folder / "README.md").write_text(card.replace("{form}", form), encoding="utf-8")
        return folder

    return make


def test_each_format_has_a_folder_and_git_keeps_apart_what_is_no_text(make: Make, tmp_path: Path) -> None:
    bundles = [make("int8"), make("int4")]
    written = write_repository(bundles, "owner/tiny", tmp_path / "out")
    assert {path.name for path in written.path.iterdir()} == {"int8", "int4", "README.md", ".gitattributes"}
    for bundle in bundles:
        copy = neort.Bundle(written.path / bundle.name, check_weights=True)
        assert copy.quantization == bundle.name
        assert {path.name for path in copy.path.iterdir()} == {*copy.file_names, "manifest.json"}
    attributes = (written.path / ".gitattributes").read_text().splitlines()
    assert attributes == [f"{name} filter=lfs diff=lfs merge=lfs -text" for name in ("*.onnx", "*.data")]


def test_the_card_is_one_of_all_formats_and_the_hub_reads_its_header(make: Make, tmp_path: Path) -> None:
    written = write_repository([make("int8"), make("int4")], "owner/tiny", tmp_path / "out")
    card = ModelCard((written.path / "README.md").read_text(encoding="utf-8"))
    header = card.data.to_dict()
    assert (header["library_name"], header["pipeline_tag"], header["license"]) == ("neort", "text-generation", "mit")
    assert (header["base_model"], header["base_model_relation"]) == ("owner/base", "quantized")
    assert header["language"] == ["no", "en"]
    assert header["inference"] is False
    assert header["tags"] == ["gpt_neo", "onnx", "int8", "int4", "onnxruntime", "cpu"]
    headings = [line for line in card.text.splitlines() if line.startswith("#") and "ot " not in line]
    assert headings[:4] == ["# `tiny`, for CPUs", "## Formats", "## Licence", "## Format"]
    assert headings[4:] == ["### int8", "### int4", "## Figures", "## My own", "## How to run it"]
    assert card.text.count("About it.") == card.text.count("by its own card: mit") == 1
    assert "neort: figures" not in card.text
    assert "old" not in card.text.split("## Figures")[1].split("\n\n")[1]
    assert "neort pull owner/tiny --format int8" in card.text
    assert 'neort.load("owner/tiny/int8")' in card.text


def test_a_card_that_is_missing_is_made_of_the_manifest(make: Make, tmp_path: Path) -> None:
    source = {"name": "owner/base", "revision": "c0ffee" + 34 * "0"}
    written = write_repository([make("int4", None, source=source)], "owner/tiny", tmp_path / "out")
    card = ModelCard((written.path / "README.md").read_text(encoding="utf-8"))
    assert card.data.to_dict() == {
        "library_name": "neort",
        "pipeline_tag": "text-generation",
        "base_model": "owner/base",
        "tags": ["gpt_neo", "onnx", "onnxruntime", "cpu", "int4"],
    }
    assert "neort pull owner/tiny\n" in card.text
    assert not written.licensed


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"form": "int8", "name": "other"}, "are both int8; give one of each format"),
        ({"form": "int4", "source": {"name": "other"}}, "their checkpoint or its revision differs"),
        (
            {"form": "int4", "card": CARD.replace("mit", "gpl")},
            r"license: mit \(int8\) and gpl \(int4\)",
        ),
    ],
)
def test_bundles_that_are_not_of_one_model_are_refused(
    changes: dict[str, Any], told: str, make: Make, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=told):
        write_repository([make(), make(**changes)], "owner/tiny", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_bundle_is_refused_and_nothing_is_left(make: Make, tmp_path: Path) -> None:
    bundle = make()
    weights = bundle / "weights.data"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="does not match the sha256"):
        write_repository([bundle], "owner/tiny", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"int8"}


@pytest.mark.parametrize("name", ["tiny", "owner/tiny/int8", "owner/tiny@v1", "https://example.org/tiny", "a--b/c"])
def test_another_name_than_owner_and_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        write_repository([bundled_path()], name, tmp_path / "out")


def test_what_is_in_the_way_is_replaced_by_force_unless_it_is_a_clone(make: Make, tmp_path: Path) -> None:
    bundle, out = make(), tmp_path / "out"
    write_repository([bundle], "owner/tiny", out)
    with pytest.raises(ExportError, match="exists already"):
        write_repository([bundle], "owner/tiny", out)
    write_repository([bundle], "owner/tiny", out, force=True)
    (out / ".git").mkdir()
    with pytest.raises(ExportError, match="is a clone of a repository"):
        write_repository([bundle], "owner/tiny", out, force=True)


def test_what_was_written_is_replaced_by_force_whatever_its_formats_are(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_repository([make("int8"), make("int4")], "owner/tiny", out)
    write_repository([tmp_path / "int4"], "owner/tiny", out, force=True)
    write_repository([tmp_path / "int8"], "owner/tiny", out, force=True)
    assert {path.name for path in out.iterdir()} == {"int8", "README.md", ".gitattributes"}


def test_a_folder_of_others_and_one_with_a_bundle_in_it_are_not_replaced_by_force(make: Make, tmp_path: Path) -> None:
    others, out = make("int8", name="bundles/int8").parent, tmp_path / "out"
    with pytest.raises(ExportError, match=r"bundles has no \.gitattributes, so --force does not replace it"):
        write_repository([make("int8")], "owner/tiny", others, force=True)
    write_repository([tmp_path / "int8", make("int4")], "owner/tiny", out)
    for bundle in (out / "int8", others / "int8"):
        with pytest.raises(
            ExportError, match=r"int8 is in .*, which is to be replaced; give another place by --output"
        ):
            write_repository([bundle], "owner/tiny", bundle.parent, force=True)
    assert (out / "int4" / "manifest.json").is_file()


def test_what_the_command_writes_can_be_uploaded_and_pulled(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["push", str(make(card=None)), "--repo", "owner/tiny"]) == 0
    out, err = capsys.readouterr()
    program, command, name, folder = shlex.split(out)
    assert (program, command, name) == ("hf", "upload", "owner/tiny")
    assert "names no licence" in err
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    with running_hub() as hub:
        hub.repositories[name] = Repository(files)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        pulled = pull(name)
    assert neort.Bundle(pulled.path, check_weights=True).quantization == "int8"
