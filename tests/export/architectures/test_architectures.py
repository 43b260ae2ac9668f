"""What a family of models says about itself is what transformers' modules are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel, GPTNeoForCausalLM
from transformers.pytorch_utils import Conv1D

from checkpoints import random_gpt2, random_model
from neort_export.architectures import ARCHITECTURES, GPT2, Dimensions, GPTNeo, Linear, architecture_of
from neort_export.checkpoint import Checkpoint


def test_a_family_is_found_by_the_type_of_its_configuration(model: GPTNeoForCausalLM) -> None:
    assert architecture_of(model.config) is ARCHITECTURES["gpt_neo"]


def test_so_is_gpt2(gpt2: GPT2LMHeadModel) -> None:
    assert architecture_of(gpt2.config) is ARCHITECTURES["gpt2"]


def test_names_of_config_json_for_what_every_family_has_are_transformers_s(
    model: GPTNeoForCausalLM, gpt2: GPT2LMHeadModel
) -> None:
    assert [GPTNeo.attribute_map, GPT2.attribute_map] == [model.config.attribute_map, gpt2.config.attribute_map]


@pytest.mark.parametrize("tied", [True, False])
def test_shapes_are_those_of_the_model_s_parameters(tied: bool) -> None:
    model = random_model(tie_word_embeddings=tied, intermediate_size=24)
    family = GPTNeo()
    shapes = family.shapes(family.dimensions(model.config), tied=tied)
    assert shapes == {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("tied", [True, False])
def test_gpt2_s_shapes_are_those_of_the_model_s_parameters_with_linear_layers_turned(tied: bool) -> None:
    model = random_gpt2(tie_word_embeddings=tied, n_inner=24)
    family = GPT2()
    dimensions = family.dimensions(model.config)
    turned = family.linear_weights(dimensions)
    parameters = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert family.shapes(dimensions, tied=tied) == {
        name: shape[::-1] if name in turned else shape for name, shape in parameters.items()
    }
    assert {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)} == turned.keys()


@pytest.mark.parametrize("divided", [True, False])
@pytest.mark.parametrize("by_layer", [True, False])
def test_gpt2_scales_its_scores_as_configured(divided: bool, by_layer: bool) -> None:
    model = random_gpt2(n_layer=3, scale_attn_weights=divided, scale_attn_by_inverse_layer_idx=by_layer)
    for layer in range(3):
        expected = (8**-0.5 if divided else 1.0) / (layer + 1 if by_layer else 1)
        assert GPT2().attention_scale(model.config, layer) == pytest.approx(expected)


def test_linear_layers_are_those_of_the_model_but_the_head(model: GPTNeoForCausalLM) -> None:
    family = GPTNeo()
    modules = {f"{name}.weight": m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    del modules[family.names.head]
    linears = family.linear_weights(family.dimensions(model.config))
    assert linears.keys() == modules.keys()
    for name, linear in linears.items():
        assert modules[name].weight.shape == (linear.rows, linear.columns)
        assert (modules[name].bias is not None) == linear.bias


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        ("transformer.h.3.attn.attention.q_proj.weight", "transformer.h.3.attn.attention.qkv_proj.weight"),
        ("transformer.h.3.attn.attention.v_proj.weight", "transformer.h.3.attn.attention.qkv_proj.weight"),
        ("transformer.h.3.attn.attention.out_proj.weight", "transformer.h.3.attn.attention.out_proj.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_query_key_and_value_are_one_weight_of_the_graph(weight: str, expected: str) -> None:
    assert GPTNeo().multiplied_as(weight) == expected


def test_gpt2_has_one_weight_for_them_already() -> None:
    name = "transformer.h.3.attn.c_attn.weight"
    assert GPT2().multiplied_as(name) == name


@pytest.mark.parametrize("count", [1, 2, 5])
def test_layers_in_turn_begin_with_a_global_one(count: int) -> None:
    family = GPTNeo()
    layers = ("global", "local", "global", "local", "global")[:count]
    for settings in [family.layers_in_turn(count), dict(list(family.layers_in_turn(count).items())[:2])]:
        dimensions = family.dimensions(family.read_config(settings))
        assert (dimensions.num_layers, dimensions.attention_layers) == (count, layers)


class Transposing(GPTNeo):
    """A family whose files have the weights of linear layers as [in, out]."""

    def linears(self, dimensions: Dimensions) -> tuple[Linear, ...]:
        own = super().linears(dimensions)
        return tuple(Linear(one.name, one.rows, one.columns, one.bias, transposed=True) for one in own)


@pytest.mark.parametrize("limits", [(0, None), (3, 9), (31, 32)])
def test_weights_that_files_have_transposed_are_read_as_the_others(
    limits: tuple[int, int | None], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Checkpoint(checkpoint)
    tensors = load_file(checkpoint / "model.safetensors")
    turned = {name: t.T.contiguous() if plain.is_linear(name) else t for name, t in tensors.items()}
    save_file(turned, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    monkeypatch.setitem(ARCHITECTURES, "gpt_neo", Transposing())
    monkeypatch.setattr("neort_export.checkpoint.tensors.stored.COLUMN_ROWS", 10)
    source = Checkpoint(tmp_path)
    for name, shape in plain.expected_shapes().items():
        assert source.shape(name) == shape
        np.testing.assert_array_equal(source.rows(name, *limits), plain.rows(name, *limits))
