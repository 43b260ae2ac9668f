"""Which command the arguments of ``neort-export`` mean, and what ``neort-export verify`` writes and says."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

import neort
from folders import ROOT
from neort.verification import VERIFICATION
from neort_export.bundle.manifest import with_checksum
from neort_export.cli import main
from neort_export.cli.outcome import Outcome
from neort_export.verification import measure as verifier

Replace = Callable[[str, object], None]


@pytest.fixture
def meant(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, argparse.Namespace]]:
    """Commands, by name and arguments, that would have run."""
    found: list[tuple[str, argparse.Namespace]] = []
    for name in ("export", "verify"):
        module = importlib.import_module(f"neort_export.cli.{name}")
        monkeypatch.setattr(module, "run", lambda args, _, name=name: found.append((name, args)))
    return found


@pytest.mark.parametrize(
    ("arguments", "checkpoint"),
    [
        (["gpt-neo", "-o", "out"], "gpt-neo"),
        (["export", "gpt-neo", "-o", "out"], "gpt-neo"),
        (["-o", "out", "gpt-neo"], "gpt-neo"),
        (["--quantization", "int4", "gpt-neo", "-o", "out"], "gpt-neo"),
        (["./verify", "-o", "out"], "./verify"),
        (["export", "verify", "-o", "out"], "verify"),
        (["export", "export", "-o", "out"], "export"),
    ],
)
def test_a_checkpoint_is_exported_whether_the_command_is_named_or_not(
    arguments: list[str], checkpoint: str, meant: list[tuple[str, argparse.Namespace]]
) -> None:
    assert main(arguments) == 0
    ((command, args),) = meant
    assert (command, args.checkpoint, args.output) == ("export", checkpoint, Path("out"))


def test_verify_is_a_command(meant: list[tuple[str, argparse.Namespace]]) -> None:
    assert main(["verify", "bundle", "--against", "gpt-neo"]) == 0
    ((command, args),) = meant
    assert (command, args.bundle, args.against) == ("verify", Path("bundle"), "gpt-neo")


@pytest.mark.parametrize("arguments", [[], ["verify", "bundle"], ["export", "-o", "out"], ["gpt-neo"]])
def test_what_is_missing_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "the following arguments are required" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["gpt-neo", "-o", "out", "--quant", "int4"],
        ["export", "gpt-neo", "--out", "out"],
        ["verify", "bundle", "--against", "gpt-neo", "--max-abs", "1"],
        ["--vers"],
    ],
)
def test_options_have_no_abbreviations(
    arguments: list[str], meant: list[tuple[str, argparse.Namespace]], capsys: pytest.CaptureFixture[str]
) -> None:
    """What an abbreviation means would change with the next option."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert not meant
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["neort_export", "neort_export.cli"])
def test_the_packages_are_commands_too(module: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"neort-export {neort.__version__}\n"


def test_the_installed_script_is_this_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, name = scripts["neort-export"].partition(":")
    assert getattr(importlib.import_module(module), name) is main


# What Ctrl-C has left


def test_an_interruption_is_told_by_what_is_on_the_disk(tmp_path: Path) -> None:
    file = tmp_path / "file"
    outcome = Outcome(file, unchanged="as it was", written="new")
    assert outcome.told() == "as it was"
    file.write_text("one")
    assert outcome.told() == "new"
    again = Outcome(file, unchanged="as it was", written="new")
    assert again.told() == "as it was"
    other = tmp_path / "other"
    other.write_text("two")
    other.replace(file)
    assert again.told() == "new"


# Verifying


@pytest.fixture
def bundle(fp32_bundle: Path, tmp_path: Path) -> Path:
    """A copy of ``checkpoint`` in fp32."""
    return Path(shutil.copytree(fp32_bundle, tmp_path / "bundle"))


@pytest.fixture
def replace(monkeypatch: pytest.MonkeyPatch, graph: ir.Model) -> Replace:
    """Replaces names of the verifying module, which reuses the graph of ``checkpoint``."""
    monkeypatch.setattr(verifier, "decoder_graph", lambda _: graph.clone())
    return lambda name, value: monkeypatch.setattr(verifier, name, value)


def everything(bundle: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in bundle.iterdir()}


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    change(manifest)
    file.write_text(json.dumps(with_checksum(manifest)), encoding="utf-8")


def test_verifying_prints_the_figures_and_keeps_the_format_s_numbers(
    replace: Replace, bundle: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    assert main(["verify", str(bundle), "--against", str(checkpoint)]) == 0
    assert "fp32 against torch: max abs logit difference" in capsys.readouterr().out
    after = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    assert (after["recipe"], after["format"]) == (before["recipe"], before["format"])


def test_verifying_does_not_guess_the_numbers_of_an_older_bundle(
    replace: Replace, bundle: Path, checkpoint: Path
) -> None:
    edit_manifest(bundle, lambda manifest: manifest.pop("format"))
    assert main(["verify", str(bundle), "--against", str(checkpoint)]) == 0
    assert "format" not in json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))


def test_a_missed_limit_of_fp32_proposes_no_format_and_leaves_the_bundle(
    replace: Replace, bundle: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(bundle)
    assert main(["verify", str(bundle), "--against", str(checkpoint), "--max-abs-diff", "0"]) == 1
    message = last_line(capsys)
    assert "fp32 against torch, max abs logit difference" in message
    assert "Raise the limit knowingly (--max-abs-diff)" in message
    assert all(words not in message for words in ("--quantization", "better format", "No bundle", "no bundle"))
    assert everything(bundle) == before


@pytest.mark.parametrize("stage", ["decoder_graph", "measure", "write_json", "write_manifest"])
def test_ctrl_c_leaves_verification_json_as_it_was_and_says_so(
    stage: str, replace: Replace, bundle: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    replace(stage, interrupt)
    before = everything(bundle)
    assert main(["verify", str(bundle), "--against", str(checkpoint)]) == 130
    assert last_line(capsys) == f"neort-export: interrupted; {VERIFICATION} was left as it was"
    assert everything(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_ctrl_c_after_the_last_file_does_not_deny_it(
    replace: Replace,
    bundle: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neort_export.cli.verify.figures", interrupt)
    assert main(["verify", str(bundle), "--against", str(checkpoint)]) == 130
    assert last_line(capsys) == f"neort-export: interrupted; {VERIFICATION} was written already"


def test_a_full_disk_is_one_sentence_and_leaves_the_bundle(
    replace: Replace, bundle: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    replace("write_json", full)
    before = everything(bundle)
    assert main(["verify", str(bundle), "--against", str(checkpoint)]) == 1
    message = last_line(capsys)
    assert f"{VERIFICATION} cannot be written to {bundle}" in message
    assert "No space left on device" in message
    assert everything(bundle) == before


def test_an_unwritable_parent_is_told_with_its_remedy_before_anything_is_measured(
    replace: Replace,
    bundle: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    replace("decoder_graph", lambda _: pytest.fail("it is traced"))
    before = everything(bundle)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["verify", str(bundle), "--against", str(checkpoint)]) == 1
    message = last_line(capsys)
    assert f"{VERIFICATION} cannot be written to {bundle} (Permission denied)" in message
    assert f"make the folder {bundle.parent} writable" in message
    assert "another place" not in message
    assert everything(bundle) == before


def test_a_format_that_this_version_does_not_know_is_refused(
    bundle: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["recipe"]["quantization"] = manifest["format"]["name"] = "int3"

    edit_manifest(bundle, edit)
    assert main(["verify", str(bundle), "--against", str(checkpoint), "--strict"]) == 1
    message = last_line(capsys)
    assert "'int3'" in message
    assert "int8, int8-block, int4, fp32" in message
