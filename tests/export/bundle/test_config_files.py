"""generation_config.json of a bundle: whatever transformers loads, from either file, loads in neort, with one word."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from neort.generation import GenerationConfig
from neort_export.bundle.config_files import write_configs
from neort_export.checkpoint import Checkpoint
from neort_export.errors import CheckpointError

EOS = 7


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes both files of a checkpoint with the entries given; returns the bundle's options and what was said."""

    def write(options: dict[str, Any] | None, **entries: Any) -> tuple[GenerationConfig, list[str]]:
        source, bundle = tmp_path / "checkpoint", tmp_path / "bundle"
        source.mkdir()
        bundle.mkdir()
        (source / "config.json").write_text(json.dumps({"model_type": "gpt_neo", **entries}))
        if options is not None:
            (source / "generation_config.json").write_text(json.dumps(options))
        checkpoint = SimpleNamespace(
            path=source,
            config=SimpleNamespace(bos_token_id=EOS, eos_token_id=entries.get("eos_token_id", EOS)),
            tied=True,
            dimensions=SimpleNamespace(vocab_size=300),
        )
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            write_configs(cast(Checkpoint, checkpoint), bundle)
            said = [str(each.message) for each in told]
            written = json.loads((bundle / "generation_config.json").read_text())
            return GenerationConfig.from_hf(written), said

    return write


def test_an_old_config_has_the_options_that_transformers_finds_in_it(write: Any) -> None:
    config, said = write(
        None,
        do_sample=True,
        temperature=0.7,
        top_k=5,
        repetition_penalty=1.2,
        min_length=10,
        eos_token_id=[0, 5],
        hidden_size=32,
        task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}},
    )
    assert said == []
    assert config == GenerationConfig(
        do_sample=True, temperature=0.7, top_k=5, repetition_penalty=1.2, min_length=10, eos_token_id=[0, 5]
    )


@pytest.mark.parametrize(
    "entries",
    [{}, {"max_length": None, "top_k": None}, {"use_cache": True, "transformers_version": "4.9.0", "_name": 1}],
    ids=str,
)
def test_an_old_config_without_options_gives_the_end_of_text_alone(write: Any, entries: dict[str, Any]) -> None:
    assert write(None, **entries) == (GenerationConfig(eos_token_id=EOS), [])


def test_what_an_old_config_asks_for_and_neort_lacks_is_named_once_with_its_file(write: Any) -> None:
    config, said = write(None, max_length=50, penalty_alpha=0.6)
    assert config == GenerationConfig(eos_token_id=EOS, max_length=50)
    (sentence,) = said
    for part in ("config.json: ignored options", "penalty_alpha=0.6"):
        assert part in sentence
    assert "generation_config" not in sentence


def test_an_old_config_that_transformers_does_not_load_is_refused(write: Any) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: .*Greedy methods"):
        write(None, num_return_sequences=3)


def test_entries_of_config_json_do_not_count_beside_a_generation_config(write: Any) -> None:
    config, said = write({"eos_token_id": 0}, do_sample=True, temperature=0.5, max_length=50)
    assert (config, said) == (GenerationConfig(eos_token_id=0), [])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"pad_token_id": -1}, "pad_token_id=-1"),
        ({"eos_token_id": -1}, "eos_token_id=-1"),
        ({"eos_token_id": 5000}, "eos_token_id 5000 is none of the model's 300 tokens"),
        ({"num_beams": 4, "num_return_sequences": 3}, "num_return_sequences=3"),
        ({"min_new_tokens": 500, "max_length": 400}, "min_new_tokens=500"),
        ({"do_sample": True, "temperature": 0.0}, "temperature=0.0"),
        ({"do_sample": True, "top_k": -1}, "top_k=-1"),
        ({"do_sample": True, "top_p": 1.5}, "top_p=1.5"),
        ({"stop_strings": [1]}, "stop_strings=[1]"),
    ],
)
def test_a_value_without_a_meaning_is_named_once_and_loads(write: Any, options: dict[str, Any], named: str) -> None:
    _, said = write(options)
    assert len(said) == 1
    assert "generation_config.json: " in said[0]
    assert said[0].count(named) == 1


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"max_new_tokens": "64"}, {"pad_token_id": "0"}])
def test_what_transformers_does_not_load_is_refused_with_its_file(write: Any, options: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"generation_config.json: .* must be .* Correct it there"):
        write(options)
