"""GPT-2 in every format: what quantization loses, what batches and drafts may not change, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

import neort
from checkpoints import (
    NO_LIMITS,
    POSITIONS,
    assert_same_hidden_states,
    edit_json,
    random_gpt2,
    random_ids,
    save,
    torch_greedy,
    torch_logits,
)
from neort.backend import DecoderSession
from neort.bundle import Bundle, Quantization
from neort.verification import batch_difference, check
from neort_export import CheckpointError, Report, export, verify
from neort_export.checkpoint import Checkpoint
from neort_export.verification import measure

Exports = Callable[[Quantization], Report]
LOSSES = {"int8": 2e-3, "int8-block": 2e-3, "int4": 0.1}  # mean KL in nats


@pytest.fixture(params=list(LOSSES))
def quantization(request: pytest.FixtureRequest) -> Quantization:
    name: Quantization = request.param
    return name


def test_embeddings_are_torchs_hidden_states(gpt2: GPT2LMHeadModel, gpt2_exports: Exports) -> None:
    assert_same_hidden_states(gpt2, gpt2_exports("fp32").path, ["The river ran", "x"])


def test_each_format_is_near_torch_and_graded(quantization: Quantization, gpt2_exports: Exports) -> None:
    measured = gpt2_exports(quantization).verification
    assert measured is not None
    assert measured.quantized is not None
    assert measured.grade is not None
    assert 0 < measured.quantized.mean_kl < LOSSES[quantization]
    assert measured.batch_difference == 0


def test_each_format_s_int8_cache_is_about_as_near(quantization: Quantization, gpt2_exports: Exports) -> None:
    measured = gpt2_exports(quantization).verification
    assert measured is not None
    assert measured.int8_cache is not None
    assert 0 < measured.int8_cache.mean_kl < LOSSES[quantization]
    model = neort.load(gpt2_exports(quantization).path, kv_cache="int8")
    assert len(model.generate(random_ids(20), max_new_tokens=POSITIONS - 19).token_ids) == POSITIONS - 19


def test_a_sequence_has_the_same_bits_in_a_batch_as_alone(quantization: Quantization, gpt2_exports: Exports) -> None:
    session = DecoderSession(Bundle(gpt2_exports(quantization).path))
    assert batch_difference(session, random_ids(100)) == 0


def test_the_manifest_has_the_stored_width_of_heads_and_no_window(gpt2_exports: Exports) -> None:
    bundle = gpt2_exports("int8").path
    assert json.loads((bundle / "manifest.json").read_text())["model"] == {
        "architecture": "gpt2",
        "vocab_size": 311,
        "hidden_size": 36,
        "num_layers": 2,
        "num_heads": 3,
        "head_dim": 16,
        "max_position_embeddings": POSITIONS,
        "window_size": POSITIONS,
        "attention_layers": ["global", "global"],
    }
    assert json.loads((bundle / "genai_config.json").read_text())["model"]["decoder"]["head_size"] == 16


def test_a_bundle_passes_its_own_check(gpt2_exports: Exports) -> None:
    assert all(result.passed for result in check(gpt2_exports("int8").path))


def test_a_bundle_is_measured_again_against_its_checkpoint(
    gpt2_exports: Exports, gpt2_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = gpt2_exports("fp32")
    graph = measure.load_decoders(report.path)["fp32"]
    monkeypatch.setattr(measure, "decoder_graph", lambda _: graph)
    again = verify(report.path, gpt2_checkpoint, limits=NO_LIMITS)
    assert report.verification is not None
    assert again.fp32 == report.verification.fp32


@pytest.mark.parametrize("draft", ["prompt-lookup", "int4", "gpt_neo"])
def test_drafts_leave_greedy_tokens_as_they_are(
    draft: str,
    gpt2: GPT2LMHeadModel,
    gpt2_exports: Exports,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own int4 bundle proposes, and a GPT-Neo of the same vocabulary; all pay for a model of so few weights."""
    monkeypatch.setattr("neort.speculative.speculator.OVERHEAD", 1)
    proposing: str | Path = draft
    if draft == "int4":
        proposing = gpt2_exports("int4").path
    elif draft == "gpt_neo":
        proposing = request.getfixturevalue("fp32_bundle")
    drafting = neort.load(gpt2_exports("fp32").path, draft=proposing, max_batch_size=1)
    found = drafting.generate(random_ids(30), max_new_tokens=60)
    assert list(found.token_ids) == torch_greedy(gpt2, random_ids(30), 60)
    assert found.stats.drafted_tokens > 0


def test_a_prompt_that_is_known_in_part_is_continued_as_at_first(gpt2: GPT2LMHeadModel, gpt2_exports: Exports) -> None:
    model = neort.load(gpt2_exports("fp32").path, prefix_cache_bytes=1 << 20)
    prompts = [np.concatenate([random_ids(64), random_ids(9, seed=seed)]) for seed in (2, 3)]
    for prompt in prompts:
        assert list(model.generate(prompt, max_new_tokens=20).token_ids) == torch_greedy(gpt2, prompt, 20)
    assert model.generate(prompts[1], max_new_tokens=1).stats.reused_tokens >= 64


def test_files_of_openai_s_own_names_and_buffers_hold_the_same_model(gpt2_checkpoint: Path, tmp_path: Path) -> None:
    """They have no prefix, and each layer's mask; as pickles too, of which no columns can be read alone."""
    tensors = load_file(gpt2_checkpoint / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    for i in range(2):
        bare[f"h.{i}.attn.bias"] = torch.ones(1, 1, POSITIONS, POSITIONS)
        bare[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    expected = Checkpoint(gpt2_checkpoint)
    for name in ("safetensors", "pickle"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_bytes((gpt2_checkpoint / "config.json").read_bytes())
        if name == "pickle":
            torch.save(bare, folder / "pytorch_model.bin")
        else:
            save_file(bare, folder / "model.safetensors")
        found = Checkpoint(folder)
        for tensor in expected.expected_shapes():
            for limits in ((0, None), (1, 7)):
                np.testing.assert_array_equal(found.rows(tensor, *limits), expected.rows(tensor, *limits))


def test_logits_equal_torch_s_where_all_options_are_set_otherwise(tmp_path: Path) -> None:
    options = {"scale_attn_weights": False, "n_inner": 40, "tie_word_embeddings": False, "n_positions": 64}
    model = random_gpt2(**options, activation_function="relu", reorder_and_upcast_attn=True, n_head=8, n_layer=1)
    folder = save(model, tmp_path / "model")
    path = export(folder, tmp_path / "bundle", quantization="fp32", verify=False).path
    found = np.stack(list(neort.load(path).logits(random_ids(64))))
    np.testing.assert_allclose(found, torch_logits(model, random_ids(64)), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"add_cross_attention": True}, "decoders alone"),
        ({"n_inner": 0}, "n_inner is 0"),
        ({"activation_function": "prelu"}, "activation_function is 'prelu'; it must be one of gelu"),
        ({"activation_function": "gelu_newer"}, "gelu_newer"),
        ({"activation_function": ["gelu"]}, "config.json"),
    ],
    ids=["cross-attention", "inner width", "trained activation", "unknown activation", "activations"],
)
def test_what_cannot_be_exported_is_refused(
    changes: dict[str, object], words: str, gpt2_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(gpt2_checkpoint, tmp_path, dirs_exist_ok=True)
    edit_json(tmp_path / "config.json", **changes)
    with pytest.raises(CheckpointError, match=words):
        Checkpoint(tmp_path)
