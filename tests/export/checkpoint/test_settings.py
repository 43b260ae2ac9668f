"""Values of config.json that transformers cannot compute with: one sentence with the name, the value and the range."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from checkpoints import edit_json
from neort_export import CheckpointError
from neort_export.checkpoint import Checkpoint

SIZE = "it must be a whole number from 1 to 2,147,483,647"
EPSILON = "it must be a number of at least 0"

REFUSED: list[tuple[str, Any, str]] = [
    *((name, 128.0, SIZE) for name in ("hidden_size", "num_heads", "num_layers", "vocab_size", "window_size")),
    *(("max_position_embeddings", value, SIZE) for value in ("128", None, 0, -1, True, [128])),
    *(("window_size", value, SIZE) for value in (0, None, "16", True)),
    *(("intermediate_size", value, "it must be null or a whole number") for value in ("128", 0, 128.0, True)),
    *(("layer_norm_epsilon", value, EPSILON) for value in (None, "1e-5", -1e-5, True)),
    *(("activation_function", value, "it must be one of gelu, gelu_10, ") for value in ("gelu_erf", None, 3, "GELU")),
    *(("tie_word_embeddings", value, "it must be true or false") for value in (1, 0, "false", None)),
    *(("attention_types", value, "it must be pairs of a list of kinds") for value in ("global", [["global", 2]])),
    ("attention_types", [[["global", "local"], "1"]], "it must be pairs of a list of kinds"),
    ("attention_layers", None, "it must be a list of 'global' and 'local'"),
    ("attention_layers", "global", "it must be a list of 'global' and 'local'"),
    ("attention_layers", ["local"], "names 1 layers, num_layers is 2"),
    ("attention_layers", ["global", "Local"], "not ['Local']"),
    *(("attention_dropout", value, "it must be a number from 0 to 1") for value in (None, 7, "0.1")),
    ("num_layers", 10**9, "names 2 layers, num_layers is 1,000,000,000"),
    ("bos_token_id", "a", "it must be null or a whole number"),
    ("eos_token_id", [1.0], "it must be null, a whole number or a list of them"),
]

TAKEN: list[tuple[str, Any]] = [
    ("layer_norm_epsilon", 0),
    ("intermediate_size", None),
    ("eos_token_id", [0, 5]),
    ("attention_types", []),
    ("attention_types", None),
    *((name, "x") for name in ("initializer_range", "use_cache", "num_labels", "torch_dtype")),
    ("activation_function", "relu"),
    ("quantization_config", None),
]


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("settings") / "model"))


@pytest.fixture
def config(checkpoint: Path, folder: Path) -> Path:
    """config.json as it was saved, to be changed."""
    return Path(shutil.copy(checkpoint / "config.json", folder))


@pytest.mark.parametrize(("name", "value", "words"), REFUSED)
def test_a_value_of_the_wrong_kind_is_told_with_its_name_and_what_is_allowed(
    name: str, value: Any, words: str, config: Path
) -> None:
    edit_json(config, **{name: value})
    with pytest.raises(CheckpointError) as caught:
        Checkpoint(config.parent)
    message = str(caught.value)
    assert message.startswith(f"{config}: ")
    assert name in message
    assert words in message
    assert message.endswith("correct config.json")


@pytest.mark.parametrize(("name", "value"), TAKEN)
def test_a_value_that_does_not_change_the_model_or_is_sound_is_taken(name: str, value: Any, config: Path) -> None:
    edit_json(config, **{name: value})
    Checkpoint(config.parent)


def test_layers_without_types_are_those_of_the_list(config: Path) -> None:
    edit_json(config, attention_types=None, attention_layers=["local", "local"])
    assert Checkpoint(config.parent).dimensions.attention_layers == ("local", "local")
