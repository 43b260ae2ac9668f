"""What goes wrong with files, memory and arguments is one sentence of the right cause, and leaves no bundle."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import neort
from checkpoints import NO_LIMITS, edit_json
from neort_export import CheckpointError, ExportError, Limits, VerificationError, export, verify
from neort_export import exporter as exporter_module
from neort_export.bundle import write_manifest
from neort_export.bundle.manifest import with_checksum
from neort_export.checkpoint import Checkpoint
from neort_export.cli import main
from neort_export.verification import trial

Replace = Callable[[str, object], None]
JSON_FILES = ["config.json", "generation_config.json", "tokenizer_config.json"]
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the random checkpoint, to be changed."""
    copy = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    (copy / "tokenizer_config.json").write_text("{}")
    return copy


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "bundle"


def refusal(folder: Path, target: Path, kind: type[Exception] = CheckpointError) -> str:
    """The message with which an export ends before anything is traced; nothing is left of it."""
    with pytest.raises(kind) as caught:
        export(folder, target, quantization="fp32", verify=False)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1500
    message.encode()
    assert list(target.parent.iterdir()) == []
    return message


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports that are refused before they trace."""
    monkeypatch.setattr(exporter_module, "decoder_graph", lambda _: pytest.fail("it is traced"))


# Files


@posix_only
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", [*JSON_FILES, "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_refused_and_not_opened(name: str, kind: str, folder: Path, target: Path) -> None:
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    else:
        (folder / name).mkdir()
    assert f"{folder / name} is no regular file" in refusal(folder, target)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", [*JSON_FILES, "tokenizer.json"])
def test_files_larger_than_any_such_file_are_not_read(name: str, folder: Path, target: Path) -> None:
    with (folder / name).open("r+b") as stream:
        stream.truncate(300 << 20)  # a hole: it takes no disk
    message = refusal(folder, target)
    assert f"{folder / name} has more than" in message
    assert "bytes, which is the limit" in message


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "[" * 100_000, '{"a": NaN}', '{"a": "\\ud800"}', "{" + '"a":' + "9" * 10_000 + "}"],
    ids=["empty", "cut", "list", "null", "deep", "NaN", "half a character", "a long number"],
)
def test_json_files_that_hold_no_object_are_named(name: str, content: str, folder: Path, target: Path) -> None:
    (folder / name).write_text(content)
    assert str(folder / name) in refusal(folder, target)


PERMISSIONS = """
import os, sys
from neort_export import export  # while everything may be read
import neort_export.exporter, transformers.models.gpt_neo.modeling_gpt_neo
os.setegid(65534)
os.seteuid(65534)
try:
    export(sys.argv[1], sys.argv[2], verify=False)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become somebody else")
@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_what_may_not_be_read_is_named_and_the_target_is_not_blamed(
    name: str, folder: Path, target: Path, tmp_path: Path
) -> None:
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    for file in folder.iterdir():
        file.chmod(0o644)
    target.parent.chmod(0o777)
    (folder / name).chmod(0o700 if not name else 0o600)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", PERMISSIONS, str(folder), str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    blamed = folder / (name or "config.json")
    assert line.startswith(f"CheckpointError {blamed} cannot be read (Permission denied); let this user read it")


# Weights


def change_header(folder: Path, change: Callable[[bytes], bytes]) -> None:
    file = folder / "model.safetensors"
    contents = file.read_bytes()
    length = int.from_bytes(contents[:8], "little")
    header = change(contents[8 : 8 + length])
    file.write_bytes(len(header).to_bytes(8, "little") + header + contents[8 + length :])


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "change",
    [
        lambda header: b"",
        lambda header: b"[]",
        lambda header: b"{" * 50_000,
        lambda header: header[:-9],
        lambda header: header.replace(b'"F32"', b'"F31"', 1),
        lambda header: header.replace(b'"shape":[', b'"shape":[-1,', 1),
        lambda header: header.replace(b'"shape":[', b'"shape":["x",', 1),
        lambda header: header.replace(b'"data_offsets":[0', b'"data_offsets":[4', 1),
        lambda header: header.replace(b'"data_offsets":[0', b'"data_offsets":[99999999999999999999', 1),
    ],
    ids=["nothing", "a list", "deep", "cut", "type", "negative", "text", "overlap", "offset"],
)
def test_a_damaged_safetensors_header_is_told(change: Callable[[bytes], bytes], folder: Path, target: Path) -> None:
    change_header(folder, change)
    assert "damaged or truncated" in refusal(folder, target)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("layers", [["global"], ["global", "local"] * 2])
def test_a_configuration_of_another_number_of_layers_is_refused(layers: list[str], folder: Path, target: Path) -> None:
    edit_json(folder / "config.json", num_layers=len(layers), attention_layers=layers, attention_types=[[layers, 1]])
    message = refusal(folder, target)
    if len(layers) == 1:
        assert "'transformer.h.1." in message
        assert "and 10 more; use the config.json that belongs to these weights" in message
    else:
        assert "no tensor 'transformer.h.2." in message


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", ["lm_head.bias", "wte.weight", "transformer.h.0.attn.attention.q_proj.bias"])
def test_a_tensor_that_the_model_has_no_place_for_is_named(name: str, folder: Path, target: Path) -> None:
    """The bare name of a tensor that is there with its prefix is one, too."""
    file = folder / "model.safetensors"
    save_file(load_file(file) | {name: torch.ones(311, 32)}, file)
    assert f"leave out: {name!r}; use" in refusal(folder, target)


def test_buffers_of_older_files_and_a_tied_head_are_expected(folder: Path) -> None:
    file = folder / "model.safetensors"
    attention = "transformer.h.1.attn.attention."
    extra = {f"{attention}bias": torch.ones(1, 1, 9, 9), f"{attention}masked_bias": torch.tensor(-1e9)}
    save_file(load_file(file) | extra | {"lm_head.weight": load_file(file)["transformer.wte.weight"].clone()}, file)
    Checkpoint(folder)


# config.json


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": "311"}, "vocab_size is '311'"),
        ({"vocab_size": 10**30}, "vocab_size is 1"),
        ({"num_layers": 10**9}, "num_layers"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"window_size": None}, "window_size is None"),
        ({"attention_types": 3}, "attention_types is 3"),
        ({"attention_types": [[["global"], 10**12]]}, "attention_types is"),
        ({"attention_types": [["global", "local"]]}, "attention_types is"),
        ({"attention_types": [[[["global"], "local"], 1]]}, "attention_"),
        ({"attention_layers": 3}, "attention_layers is 3"),
        ({"attention_layers": [1, 2]}, "attention_layers is [1, 2]"),
        ({"intermediate_size": "128"}, "intermediate_size is '128'"),
        ({"intermediate_size": 0}, "intermediate_size is 0"),
        ({"layer_norm_epsilon": "small"}, "small"),
        ({"layer_norm_epsilon": -1}, "layer_norm_epsilon is -1;"),
        ({"layer_norm_epsilon": 1e999}, "config.json"),
        ({"activation_function": "shout"}, "shout"),
        ({"activation_function": 3}, "config.json"),
        ({"resid_dropout": "x"}, "resid_dropout is 'x'"),
        ({"attention_dropout": 7}, "attention_dropout is 7"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
        ({"model_type": {"a": 1}}, "neort exports 'gpt_neo'"),
    ],
    ids=str,
)
def test_settings_of_wrong_types_and_sizes_are_named(
    changes: dict[str, Any], words: str, folder: Path, target: Path
) -> None:
    edit_json(folder / "config.json", **changes)
    message = refusal(folder, target)
    assert words in message
    assert folder.name in message


def test_settings_that_an_export_does_not_need_are_not_read(folder: Path) -> None:
    edit_json(folder / "config.json", num_labels=10**12, id2label=3, torch_dtype="what", initializer_range="x")
    Checkpoint(folder)


# Tokenizers and generation options


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "options",
    [{"max_new_tokens": 0}, {"max_new_tokens": "many"}, {"pad_token_id": "x"}],
    ids=str,
)
def test_generation_options_that_transformers_does_not_load_are_refused_at_the_start(
    options: dict[str, Any], folder: Path, target: Path
) -> None:
    (folder / "generation_config.json").write_text(json.dumps(options))
    message = refusal(folder, target)
    assert f"{folder / 'generation_config.json'}: {next(iter(options))}" in message
    assert "orrect it there" in message


@pytest.mark.usefixtures("untraced")
def test_options_that_come_from_config_json_are_told_by_its_name(folder: Path, target: Path) -> None:
    (folder / "generation_config.json").unlink()
    edit_json(folder / "config.json", max_new_tokens=0)
    message = refusal(folder, target)
    assert f"{folder / 'config.json'}: " in message
    assert "max_new_tokens" in message


def test_several_sequences_are_for_a_call_to_ask_for(folder: Path, target: Path) -> None:
    """transformers' own default for the model is told, and one prompt gives one text."""
    (folder / "generation_config.json").write_text('{"num_return_sequences": 4}')
    with pytest.warns(UserWarning, match=r"checkpoint/generation_config\.json.*num_return_sequences=4 is for a call"):
        path = export(folder, target, quantization="fp32", verify=False).path
    with pytest.warns(UserWarning, match="num_return_sequences=4"):
        model = neort.load(path)
    assert len(model.generate([5, 6], max_new_tokens=3).token_ids) == 3


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("vocab", "merges"), [("{", ""), ('{"a": "b"}', ""), ("[]", "x"), ("{}", "\ud800")])
def test_an_older_tokenizer_that_is_damaged_is_one_sentence(
    vocab: str, merges: str, folder: Path, target: Path
) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(vocab)
    (folder / "merges.txt").write_bytes(merges.encode("utf-8", "surrogatepass"))
    assert "vocab.json" in refusal(folder, target)


# What was written is run before it appears


@pytest.mark.parametrize("verify", [True, False])
def test_a_bundle_that_neort_does_not_load_is_not_published(
    verify: bool, exporter: Replace, checkpoint: Path, target: Path
) -> None:
    def damage(*args: Any, **options: Any) -> None:
        exporter_write(*args, **options)
        (args[0] / "tokenizer.json").write_text("{}")

    exporter_write = write_manifest
    exporter("write_manifest", damage)
    with pytest.raises(VerificationError, match=r"neort does not run the bundle of .*tokenizer\.json"):
        export(checkpoint, target, verify=verify, limits=NO_LIMITS)
    assert list(target.parent.iterdir()) == []


def test_each_cache_is_tried(
    exporter: Replace, checkpoint: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def load(folder: Path, *, kv_cache: Any, check_weights: bool) -> neort.Model:
        tried.append(kv_cache)
        return neort.load(folder, kv_cache=kv_cache, check_weights=check_weights)

    monkeypatch.setattr(trial, "load", load)
    report = export(checkpoint, target, verify=False)
    assert tried == ["fp32", "int8"]
    assert report.untried is None


def test_a_model_too_large_to_load_is_written_and_that_is_told(
    exporter: Replace, checkpoint: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "available_bytes", lambda: 1000)
    monkeypatch.setattr(trial, "load", lambda *_, **__: pytest.fail("it is loaded"))
    report = export(checkpoint, target, quantization="fp32", verify=False)
    assert report.untried is not None
    assert "1,000 are available" in report.untried
    neort.load(report.path)


# Memory and arguments


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
@pytest.mark.parametrize("stage", ["write_tokenizer", "decoder_graph", "write_graph"])
def test_the_end_of_memory_is_told_with_its_remedy(
    stage: str, error: Exception, exporter: Replace, checkpoint: Path, target: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("wrapped") from error

    exporter(stage, refuse)
    message = refusal(checkpoint, target, neort.OutOfMemoryError)
    assert f"no memory for the export of {checkpoint}" in message
    assert "a machine with more memory" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"checkpoint": 3}, "checkpoint is a folder's path or a hub name, not int"),
        ({"revision": 3}, "revision is a name or None, not int"),
        ({"tokenizer": 3}, "tokenizer is a folder's path or a hub name, not int"),
        ({"adapter": b"folder"}, "adapter is a folder's path or a hub name, not bytes"),
        ({"bundle": 3}, "the bundle is named by a path"),
        ({"quantization": ["int8"]}, "quantization is a name, not list"),
        ({"text": b"text"}, "text is a str or None, not bytes"),
        ({"limits": 3}, "limits is neort_export.Limits or None, not int"),
    ],
    ids=str,
)
def test_arguments_of_a_wrong_type_are_refused(
    arguments: dict[str, Any], words: str, checkpoint: Path, target: Path
) -> None:
    with pytest.raises(neort.ArgumentTypeError, match=words):
        export(**({"checkpoint": checkpoint, "bundle": target} | arguments))


@pytest.mark.parametrize("value", ["1", None, True])
def test_a_limit_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(neort.ArgumentTypeError, match="the limit mean_kl is a number, not"):
        Limits(mean_kl=value)


def test_a_limit_of_nan_is_refused() -> None:
    with pytest.raises(neort.ConfigError):
        Limits(mean_kl=math.nan)


@pytest.mark.parametrize(("checkpoint", "words"), [("", "path is empty"), ("~nobody-of-that-name/x", "home folder")])
def test_paths_that_name_nothing_are_refused(checkpoint: str, words: str, target: Path) -> None:
    assert words in refusal(checkpoint, target)  # type: ignore[arg-type]


def test_a_text_of_half_characters_is_refused(exporter: Replace, checkpoint: Path, target: Path) -> None:
    with pytest.raises(ExportError, match="surrogates"):
        export(checkpoint, target, text="a\ud800" * 100)


@posix_only
def test_a_text_without_an_end_is_refused(checkpoint: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(checkpoint), "-o", str(target), "--text", "/dev/zero"]) == 1
    assert "/dev/zero has more than 67,108,864 characters" in capsys.readouterr().err


# A bundle that is verified later


@pytest.fixture
def bundle(fp32_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the random checkpoint's bundle."""
    return Path(shutil.copytree(fp32_bundle, tmp_path / "bundle"))


def replace_file(bundle: Path, name: str, contents: bytes) -> None:
    """Give a file of a bundle other contents, and the manifest facts that fit."""
    (bundle / name).write_bytes(contents)
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(with_checksum(manifest)), encoding="utf-8")


def test_a_damaged_graph_is_refused_before_anything_is_measured(bundle: Path, checkpoint: Path) -> None:
    replace_file(bundle, "decoder.onnx", b"no graph")
    with pytest.raises(neort.BundleError, match=r"decoder\.onnx"):
        verify(bundle, checkpoint)


def test_verifying_mends_a_damaged_verification_json(bundle: Path, checkpoint: Path) -> None:
    replace_file(bundle, "verification.json", b'{"golden": {"token_ids": ["x"]}}')
    with pytest.raises(neort.BundleError, match="neort-export verify"):
        neort.check(bundle)
    verify(bundle, checkpoint)
    assert not any(check.skipped for check in neort.check(bundle))
