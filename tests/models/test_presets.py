"""Presets against the published dimensions, and against transformers' own models of that configuration."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import neort_models
from neort_models import PRESETS, preset

PUBLISHED_PARAMETERS = {
    "gpt-neo-125m": 125_198_592,
    "gpt-neo-1.3b": 1_315_575_808,
    "gpt-neo-2.7b": 2_651_307_520,
}


@pytest.mark.parametrize("name", PRESETS)
def test_the_parameter_count_is_the_published_one(name: str) -> None:
    assert PRESETS[name].parameters == PUBLISHED_PARAMETERS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_a_model_made_from_the_config_has_the_presets_shape(name: str) -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised inside transformers as it is imported
        transformers = pytest.importorskip("transformers")
    known = PRESETS[name]
    config = transformers.GPTNeoConfig(**known.config())
    with torch.device("meta"):
        model = transformers.GPTNeoForCausalLM(config)

    assert sum(weight.numel() for weight in model.parameters()) == known.parameters
    first_layer = model.transformer.h[0]
    assert first_layer.attn.attention.head_dim == known.head_dim
    assert first_layer.mlp.c_fc.out_features == known.intermediate_size
    assert tuple(layer.attn.attention_type for layer in model.transformer.h) == known.attention_layers


@pytest.mark.parametrize("name", PRESETS)
def test_the_exporter_reads_the_preset_s_numbers_from_its_config(name: str) -> None:
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised inside transformers as it is imported
        pytest.importorskip("transformers")
    architectures = pytest.importorskip("neort_export.architectures")
    known = PRESETS[name]
    family = architectures.ARCHITECTURES[known.config()["model_type"]]
    dimensions = family.dimensions(family.read_config(known.config()))

    assert sum(map(math.prod, family.shapes(dimensions, tied=True).values())) == known.parameters
    for number in vars(dimensions):
        assert getattr(dimensions, number) == getattr(known, number), number
    assert dimensions.head_dim == known.head_dim
    assert family.layers_in_turn(known.num_layers)["attention_layers"] == list(known.attention_layers)


def test_layers_alternate_beginning_with_a_global_one() -> None:
    layers = preset("gpt-neo-125m").attention_layers
    assert layers[:3] == ("global", "local", "global")
    assert len(layers) == 12


def test_a_config_can_be_changed_without_changing_the_preset() -> None:
    known = preset("gpt-neo-125m")
    known.config()["attention_layers"].clear()
    assert len(known.config()["attention_layers"]) == 12


@pytest.mark.parametrize("name", ["gpt-neo-1.3b", "GPT-Neo-1.3B", "EleutherAI/gpt-neo-1.3B", "eleutherai/GPT-NEO-1.3b"])
def test_a_preset_answers_to_its_name_and_hub_id_in_any_case(name: str) -> None:
    assert preset(name) is PRESETS["gpt-neo-1.3b"]


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'gpt-neo-6b'; known: gpt-neo-125m, gpt-neo-1\.3b, gpt-neo-2\.7b"):
        preset("gpt-neo-6b")


def test_figures_that_were_not_published_are_none() -> None:
    assert preset("gpt-neo-125m").published.pile_bits_per_byte is None
    assert preset("gpt-neo-2.7b").published.wikitext_perplexity == 11.39


def test_bundled_returns_the_folder_that_holds_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neort_models, "_BUNDLED", tmp_path)
    with pytest.raises(FileNotFoundError, match="no bundled model"):
        neort_models.bundled()
    (tmp_path / "manifest.json").write_text("{}")
    assert neort_models.bundled() == tmp_path


@pytest.mark.parametrize("module", ["neort_models", "neort_export.training.command"])
def test_importing_it_imports_no_heavy_library(module: str) -> None:
    heavy = {"torch", "transformers", "tokenizers"}
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
