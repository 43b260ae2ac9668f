"""Checkpoints in every form that Hugging Face has them, and one sentence for those that cannot be exported."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPTNeoForCausalLM

from checkpoints import edit_json, random_ids, random_model, save, torch_logits
from neort.errors import NeortError
from neort.wording import shortened
from neort_export import CheckpointError
from neort_export.bundle import write_configs, write_tokenizer
from neort_export.checkpoint import Checkpoint
from neort_export.reference import Reference

HEAD = "lm_head.weight"
EMBEDDING = "transformer.wte.weight"
INPUTS = ["input_ids", "attention_mask"]


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the random checkpoint, to be changed."""
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def refusal(folder: Path | str) -> str:
    """The message with which a checkpoint is refused: one sentence or two, on one line, naming the place."""
    with pytest.raises(CheckpointError) as caught:
        Checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert Path(folder).name in message
    return message


# Forms


def test_a_checkpoint_error_is_a_neort_error_and_a_value_error() -> None:
    assert issubclass(CheckpointError, NeortError)
    assert issubclass(CheckpointError, ValueError)


def test_safetensors_hold_the_model_s_tensors(checkpoint: Path, model: GPTNeoForCausalLM) -> None:
    source = Checkpoint(checkpoint)
    state = model.state_dict()
    for name, shape in source.expected_shapes().items():
        assert source.shape(name) == shape
        assert torch.equal(source.tensor(name), state[name])
    assert source.expected_shapes().keys() == {n for n, _ in model.named_parameters()}


def test_shards_hold_the_same_as_one_file(checkpoint: Path, model: GPTNeoForCausalLM, tmp_path: Path) -> None:
    whole, sharded = Checkpoint(checkpoint), save(model, tmp_path / "sharded", max_shard_size="30KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 2
    assert not (sharded / "model.safetensors").exists()
    for name in whole.expected_shapes():
        assert torch.equal(Checkpoint(sharded).tensor(name), whole.tensor(name))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_float32(dtype: torch.dtype, folder: Path) -> None:
    original = load_file(folder / "model.safetensors")
    change_tensors(folder, lambda tensors: tensors.update({n: t.to(dtype) for n, t in tensors.items()}))
    source = Checkpoint(folder)
    for name in source.expected_shapes():
        assert source.tensor(name).dtype == torch.float32
        assert torch.equal(source.tensor(name), original[name].to(dtype).float())


def test_a_bare_model_without_the_prefix_is_the_same_model(model: GPTNeoForCausalLM, tmp_path: Path) -> None:
    source = Checkpoint(save(model.transformer, tmp_path / "bare"))
    assert not any(name.startswith("transformer.") for name in load_file(tmp_path / "bare" / "model.safetensors"))
    (logits,) = Reference(source).logits([random_ids(20).tolist()])
    np.testing.assert_allclose(logits, torch_logits(model, random_ids(20)), rtol=0, atol=1e-5)


def to_pickle(folder: Path, state: object = None, **options: Any) -> None:
    """Replace the safetensors by a pickle."""
    file = folder / "model.safetensors"
    torch.save(load_file(file) if state is None else state, folder / "pytorch_model.bin", **options)
    file.unlink()


@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "format before torch 1.6"])
def test_a_pickle_of_tensors_holds_the_same(zip_file: bool, folder: Path, checkpoint: Path) -> None:
    to_pickle(folder, _use_new_zipfile_serialization=zip_file)
    for name in Checkpoint(checkpoint).expected_shapes():
        assert torch.equal(Checkpoint(folder).tensor(name), Checkpoint(checkpoint).tensor(name))


def test_old_buffers_beside_the_weights_are_ignored(folder: Path) -> None:
    """Checkpoints of 2021 carry the attention mask and its filling value."""
    attention = "transformer.h.0.attn.attention."
    buffers = {f"{attention}bias": torch.ones(1, 1, 9, 9).bool(), f"{attention}masked_bias": torch.tensor(-1e9)}
    to_pickle(folder, load_file(folder / "model.safetensors") | buffers)
    assert Checkpoint(folder).shape(EMBEDDING) == (311, 32)


def test_safetensors_are_preferred_to_a_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    assert Checkpoint(folder).shape(EMBEDDING) == (311, 32)


def test_only_the_asked_rows_are_read(folder: Path, model: GPTNeoForCausalLM) -> None:
    rows = Checkpoint(folder).rows(EMBEDDING, 7, 9)
    np.testing.assert_array_equal(rows, model.transformer.wte.weight.detach()[7:9])


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_the_embedding_where_they_are_tied(tied: bool, tmp_path: Path) -> None:
    source = Checkpoint(save(random_model(tie_word_embeddings=tied), tmp_path / "model"))
    assert source.tied == tied
    assert torch.equal(source.tensor(HEAD), source.tensor(EMBEDDING)) == tied
    assert (HEAD in source.expected_shapes()) == (not tied)


# Damage


def test_a_truncated_file_is_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert "damaged or truncated" in refusal(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.pop("transformer.h.1.mlp.c_fc.bias"))
    assert "no tensor 'transformer.h.1.mlp.c_fc.bias'" in refusal(folder)


def test_a_tensor_of_another_shape_than_the_configuration_s_is_named(folder: Path) -> None:
    edit_json(folder / "config.json", vocab_size=300)
    assert "'transformer.wte.weight' has shape [311, 32], but config.json asks for [300, 32]" in refusal(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float8_e4m3fn])
def test_tensors_of_other_types_are_refused_by_their_type(dtype: torch.dtype, folder: Path) -> None:
    name = "transformer.ln_f.bias"
    change_tensors(folder, lambda tensors: tensors.update({name: torch.ones(32, dtype=dtype)}))
    message = refusal(folder)
    assert f"tensor {name!r} is" in message
    assert str(dtype).removeprefix("torch.") in message or "F8_E4M3" in message


def test_a_missing_shard_is_named(model: GPTNeoForCausalLM, tmp_path: Path) -> None:
    folder = save(model, tmp_path / "sharded", max_shard_size="30KB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert f"lacks the shard {shard.name!r}" in refusal(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "9" * 300])
def test_an_index_may_not_lead_out_of_the_folder(name: str, folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder.parent)
    (folder / "sub").mkdir()
    (folder / "model.safetensors").rename(folder / "sub" / "model.safetensors")
    index = {"weight_map": {EMBEDDING: name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert shortened(name) in refusal(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"x": 3}}'])
def test_a_broken_index_is_refused(content: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json" in refusal(folder)


class _CreatesFile:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("save_as", ["torch", "pickle"])
def test_a_pickle_that_runs_code_is_refused_and_runs_none(save_as: str, folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "created"
    payload = {EMBEDDING: _CreatesFile(victim)}
    to_pickle(folder, payload)
    if save_as == "pickle":
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(payload))
    assert "weights-only loader" in refusal(folder)
    assert not victim.exists()


@pytest.mark.parametrize("place", ["name", "contents"])
def test_a_damaged_record_of_a_pickle_is_found_though_it_is_mapped(place: str, folder: Path) -> None:
    """torch asks nothing of the records of a mapped file, and would read weights from the wrong place."""
    to_pickle(folder)
    file = folder / "pytorch_model.bin"
    with zipfile.ZipFile(file) as archive:
        record = max(archive.infolist(), key=lambda each: each.file_size)
    contents = bytearray(file.read_bytes())
    contents[record.header_offset + (30 if place == "name" else 30 + 200)] ^= 1
    file.write_bytes(contents)
    assert "weights-only loader" in refusal(folder)


def test_a_pickle_of_something_else_is_refused(folder: Path) -> None:
    to_pickle(folder, [torch.ones(3)])
    refusal(folder)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "neither model.safetensors nor pytorch_model.bin" in refusal(folder)


# Configurations


def test_a_folder_without_a_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b'{"x": NaN}'])
def test_a_configuration_that_is_not_json_is_refused(content: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    told = refusal(folder)
    assert "cannot be read as JSON" in told
    assert "correct it, or fetch the checkpoint again" in told


@pytest.mark.parametrize("content", ["[]", "3", '"gpt_neo"'])
def test_a_configuration_that_is_no_object_is_refused(content: str, folder: Path) -> None:
    (folder / "config.json").write_text(content)
    refusal(folder)


@pytest.mark.parametrize("kind", ["gpt_neox", "opt", "gptj"])
def test_other_architectures_are_refused_by_name(kind: str, folder: Path) -> None:
    edit_json(folder / "config.json", model_type=kind)
    message = refusal(folder)
    assert f"is a {kind!r} model" in message
    assert "'gpt_neo' and 'gpt2' checkpoints only" in message


def test_a_config_without_a_model_type_is_told_the_line_that_it_lacks(folder: Path) -> None:
    edit_json(folder / "config.json", model_type=None)
    assert 'write "model_type": "gpt_neo" there' in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_layers": 3}, "num_layers"),
        ({"attention_types": [[["global", "sliding"], 1]], "attention_layers": ["global", "sliding"]}, "sliding"),
        ({"num_heads": 5}, "not a multiple of num_heads 5"),
        ({"num_heads": 0}, "num_heads"),
        ({"window_size": 0}, "window_size"),
    ],
    ids=["layer count", "unknown kind of layer", "uneven heads", "no heads", "no window"],
)
def test_inconsistent_configurations_are_refused(changes: dict[str, Any], words: str, folder: Path) -> None:
    edit_json(folder / "config.json", **changes)
    assert words in refusal(folder)


# Places


@pytest.mark.parametrize("place", ["./nothing-here", "/nothing/here", "~/nothing/here", "a/b/nothing-here"])
def test_a_path_that_is_no_folder_is_refused_without_asking_the_hub(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "is not a folder" in refusal(place)


def test_a_file_is_no_checkpoint(folder: Path) -> None:
    assert "is not a folder" in refusal(folder / "config.json")


# Tokenizers


def test_a_checkpoint_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no tokenizer.*--tokenizer NAME_OR_FOLDER.*EleutherAI/gpt-neo-125M"):
        write_tokenizer(Checkpoint(folder), tmp_path)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = save(random_model(vocab_size=250), tmp_path / "model")
    with pytest.raises(CheckpointError, match="257 entries, up to id 256, the model only 250"):
        write_tokenizer(Checkpoint(folder), tmp_path)


def test_a_tokenizer_that_the_runtime_cannot_reproduce_is_refused(folder: Path, tmp_path: Path) -> None:
    edit_json(folder / "tokenizer.json", normalizer={"type": "Lowercase"})
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(CheckpointError, match=folder.name):
        write_tokenizer(Checkpoint(folder), tmp_path)


def test_vocabulary_and_merges_become_a_tokenizer_of_the_same_ids(folder: Path, tmp_path: Path) -> None:
    """The older form: vocab.json and merges.txt."""
    text = "In 1984, they've said: naïve café, 東京.\n\n  <|endoftext|>"
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    expected = write_tokenizer(Checkpoint(folder), tmp_path / "first").encode(text)
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    assert write_tokenizer(Checkpoint(folder), tmp_path / "second").encode(text) == expected


def test_files_that_old_checkpoints_lack_are_made(folder: Path, tmp_path: Path) -> None:
    edit_json(folder / "config.json", bos_token_id=5, eos_token_id=7)
    (folder / "generation_config.json").unlink()
    write_configs(Checkpoint(folder), tmp_path)
    write_tokenizer(Checkpoint(folder), tmp_path)
    made = json.loads((tmp_path / "generation_config.json").read_text())
    assert made == {"bos_token_id": 5, "eos_token_id": 7}
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 128
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_input_names"] == INPUTS


def test_an_older_tokenizer_config_learns_what_the_model_reads(folder: Path, tmp_path: Path) -> None:
    """transformers 4.57's generic class returns token_type_ids otherwise, which GPT-Neo adds as embeddings."""
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    write_configs(Checkpoint(folder), tmp_path)
    write_tokenizer(Checkpoint(folder), tmp_path)
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert written == {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": INPUTS}
    assert set(AutoTokenizer.from_pretrained(tmp_path)("Once")) == set(INPUTS)


@pytest.mark.parametrize("tied", [True, False])
def test_a_bundle_s_config_says_whether_its_head_is_the_embedding(tied: bool, folder: Path, tmp_path: Path) -> None:
    """transformers 5 takes a stored head beside a configuration that ties it; other readers of the file do not."""
    source = Checkpoint(folder)
    source.tied = tied
    write_configs(source, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    before = json.loads((folder / "config.json").read_text())
    assert written.pop("tie_word_embeddings", True) is tied
    assert written == {name: value for name, value in before.items() if name != "tie_word_embeddings"}
