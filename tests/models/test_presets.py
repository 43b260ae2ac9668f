"""Presets against the published dimensions, and against transformers' own models of that configuration."""

from __future__ import annotations

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
    "tinystories-1m": 3_745_984,
    "tinystories-3m": 8_278_400,
    "distilgpt2": 81_912_576,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
}


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_the_parameter_count_is_the_published_one(name: str) -> None:
    assert PRESETS[name].parameters == PUBLISHED_PARAMETERS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_a_model_made_from_the_config_has_the_presets_shape(name: str) -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised inside transformers as it is imported
        transformers = pytest.importorskip("transformers")
    known = PRESETS[name]
    config = transformers.AutoConfig.for_model(**known.config())
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)

    assert type(model).__name__ == known.config()["architectures"][0]
    assert sum(weight.numel() for weight in model.parameters()) == known.parameters
    attention = model.transformer.h[0].attn
    assert getattr(attention, "attention", attention).head_dim == known.head_dim
    kinds = [getattr(layer.attn, "attention_type", "global") for layer in model.transformer.h]
    assert tuple(kinds) == known.attention_layers


@pytest.mark.parametrize("name", PRESETS)
def test_the_exporter_reads_the_preset_s_numbers_from_its_config(name: str) -> None:
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised inside transformers as it is imported
        pytest.importorskip("transformers")
    architectures = pytest.importorskip("neort_export.architectures")
    known = PRESETS[name]
    family = architectures.ARCHITECTURES[known.family]
    dimensions = family.dimensions(family.read_config(known.config()))
    assert dimensions.head_dim == known.head_dim
    assert dimensions.intermediate_size == known.intermediate_size
    assert dimensions.attention_layers == known.attention_layers
    assert dimensions.window_size == (known.window_size or known.max_position_embeddings)


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
    assert preset("tinystories-33m").published.wikitext_perplexity is None


def test_figures_that_no_harness_of_today_measures_are_told_apart() -> None:
    for name in ("gpt-neo-1.3b", "gpt-neo-2.7b"):
        published = preset(name).published
        assert published.comparable == {"lambada_accuracy"}
        assert "before lm-eval" in published.note
    assert "wikitext_perplexity" in preset("gpt-neo-125m").published.comparable
    assert not preset("gpt2-xl").published.comparable


@pytest.mark.parametrize("name", PRESETS)
def test_comparable_figures_are_figures_that_were_published(name: str) -> None:
    published = PRESETS[name].published
    assert all(getattr(published, figure) is not None for figure in published.comparable)


def test_bundled_returns_the_folder_that_holds_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEORT_MODEL")
    monkeypatch.setattr(neort_models, "_BUNDLED", tmp_path)
    with pytest.raises(FileNotFoundError, match="no bundled model"):
        neort_models.bundled()
    (tmp_path / "manifest.json").write_text("{}")
    assert neort_models.bundled() == tmp_path


def test_the_environment_names_another_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEORT_MODEL", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"^NEORT_MODEL=.* is no folder of a bundle: .* or unset NEORT_MODEL$"):
        neort_models.bundled()
    (tmp_path / "manifest.json").write_text("{}")
    assert neort_models.bundled() == tmp_path
    monkeypatch.setenv("NEORT_MODEL", "")
    assert neort_models.bundled().name == "neo-books"


@pytest.mark.parametrize("module", ["neort_models", "neort_export.training.command"])
def test_importing_it_imports_no_heavy_library(module: str) -> None:
    heavy = {"torch", "transformers", "tokenizers"}
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
