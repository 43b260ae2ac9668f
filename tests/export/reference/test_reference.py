"""torch's answer, layer by layer, is the whole model's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPTNeoForCausalLM

from checkpoints import random_gpt2, random_ids, random_model, save, torch_logits
from neort_export.checkpoint import Checkpoint
from neort_export.reference import Reference, calibrate, reference
from neort_export.reference.reference import Hook

SEQUENCES = [random_ids(100, 311).tolist(), random_ids(1, 311).tolist(), random_ids(40, 311, seed=2).tolist()]


class Inputs(Hook):
    """Keeps what every linear layer read."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, torch.Tensor]] = []

    def observe(self, weight: str, x: torch.Tensor) -> None:
        self.seen.append((weight, x.reshape(-1, x.shape[-1]).clone()))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers": ("local", "local", "global"), "window_size": 5},
        {"tie_word_embeddings": False, "intermediate_size": 24},
        {"activation_function": "relu", "layer_norm_epsilon": 1e-3},
    ],
    ids=["defaults", "irregular layers", "untied head", "other activation and epsilon"],
)
def test_streamed_logits_equal_the_whole_model(options: dict[str, Any], tmp_path: Path) -> None:
    model = random_model(**options)
    streamed = Reference(Checkpoint(save(model, tmp_path / "model"))).logits(SEQUENCES)
    for logits, ids in zip(streamed, SEQUENCES, strict=True):
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, torch_logits(model, ids), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3},
        {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
        {"n_inner": 40, "tie_word_embeddings": False, "n_head": 5, "n_embd": 15},
        {"activation_function": "tanh", "layer_norm_epsilon": 1e-3},
    ],
    ids=["defaults", "unscaled", "scaled by layer", "reordered", "other sizes", "other activation and epsilon"],
)
def test_streamed_logits_equal_the_whole_gpt2(options: dict[str, Any], tmp_path: Path) -> None:
    model = random_gpt2(**options)
    source = Reference(Checkpoint(save(model, tmp_path / "model")))
    for logits, ids in zip(source.logits(SEQUENCES), SEQUENCES, strict=True):
        np.testing.assert_allclose(logits, torch_logits(model, ids), rtol=0, atol=1e-5)
    for answer in source.parts(SEQUENCES[2], last=3):
        assert answer.exact.dtype == np.float64
        assert answer.rounding.max() < 1e-5


def test_the_head_may_be_computed_in_pieces(
    model: GPTNeoForCausalLM, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "HEAD_ROWS", 100)
    (logits,) = Reference(Checkpoint(checkpoint)).logits(SEQUENCES[:1])
    np.testing.assert_allclose(logits, torch_logits(model, SEQUENCES[0]), rtol=0, atol=1e-6)


def test_the_hook_sees_every_linear_layer_once_per_sequence(model: GPTNeoForCausalLM, checkpoint: Path) -> None:
    hook = Inputs()
    Reference(Checkpoint(checkpoint)).hidden_states([], hook, watched=SEQUENCES)
    linears = [f"{n}.weight" for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    assert Counter(name for name, _ in hook.seen) == dict.fromkeys(linears, len(SEQUENCES))


def test_the_hook_sees_the_inputs_of_the_whole_model(model: GPTNeoForCausalLM, checkpoint: Path) -> None:
    hook, expected = Inputs(), {}
    Reference(Checkpoint(checkpoint)).hidden_states([], hook, watched=SEQUENCES[:1])
    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: expected.update({f"{name}.weight": args[0][0]}))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    torch_logits(model, SEQUENCES[0])
    for handle in handles:
        handle.remove()
    for name, x in hook.seen:
        torch.testing.assert_close(x, expected[name], rtol=0, atol=1e-6)


def test_the_hook_is_gone_after_its_run(checkpoint: Path) -> None:
    source, hook = Reference(Checkpoint(checkpoint)), Inputs()
    source.hidden_states([], hook, watched=SEQUENCES[:1])
    before = len(hook.seen)
    source.hidden_states(SEQUENCES[:1])
    assert len(hook.seen) == before


def test_calibration_ranges_are_the_extremes_of_all_sequences(checkpoint: Path) -> None:
    source, hook = Reference(Checkpoint(checkpoint)), Inputs()
    source.hidden_states([], hook, watched=SEQUENCES)
    ranges, _ = calibrate(source, SEQUENCES)
    projections = {name for name, _ in hook.seen if ".k_proj." not in name and ".v_proj." not in name}
    assert ranges.keys() == {name.replace("q_proj", "qkv_proj") for name in projections}
    for name in projections:
        rows = torch.cat([x for seen, x in hook.seen if seen == name]).numpy()
        channels = ranges[name.replace("q_proj", "qkv_proj")]
        np.testing.assert_array_equal(channels.low, rows.min(axis=0))
        np.testing.assert_array_equal(channels.high, rows.max(axis=0))


def test_calibration_sees_heads_as_wide_as_the_graph_has_them(gpt2_checkpoint: Path) -> None:
    """Heads of 12 channels are stored in 16; the further ones are zero, in what moments are made of, too."""
    source = Reference(Checkpoint(gpt2_checkpoint))
    ranges, _ = calibrate(source, SEQUENCES[:1])
    channels = ranges["transformer.h.0.attn.c_proj.weight"]
    for values in (channels.low, channels.high):
        heads = values.reshape(3, 16)
        assert heads[:, :12].all()
        assert not heads[:, 12:].any()
    assert ranges["transformer.h.0.attn.c_attn.weight"].low.shape == (36,)
    assert ranges["transformer.h.0.mlp.c_proj.weight"].low.shape == (144,)


def test_other_sequences_share_the_run_unobserved(checkpoint: Path) -> None:
    source = Reference(Checkpoint(checkpoint))
    ranges, hidden = calibrate(source, SEQUENCES[:1], others=SEQUENCES[1:])
    alone, nothing = calibrate(source, SEQUENCES[:1])
    assert nothing == []
    for found, expected in zip(hidden, source.hidden_states(SEQUENCES[1:]), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for name, channels in ranges.items():
        np.testing.assert_array_equal(channels.high, alone[name].high)
