"""What a step reads and a prompt multiplies, against figures reckoned by hand and counted by transformers."""

from __future__ import annotations

import pytest

from benchmarks.harness.work import (
    Numbers,
    bytes_per_step,
    cached_values,
    head_weights,
    linear_weights,
    operations_of_prompt,
)
from benchmarks.peers.catalog import SYSTEMS
from benchmarks.peers.numbers import NUMBERS
from neort_models import PRESETS, preset

FP32 = Numbers(4, 4, 4, "fp32")
SMALL = {
    "model_type": "gpt_neo",
    "hidden_size": 8,
    "intermediate_size": None,
    "num_layers": 2,
    "num_heads": 2,
    "max_position_embeddings": 64,
    "vocab_size": 100,
    "window_size": 16,
    "attention_layers": ["global", "local"],
}


def test_weights_of_a_small_model() -> None:
    assert linear_weights(SMALL) == 2 * (4 * 8 * 8 + 2 * 8 * 32)
    assert linear_weights(SMALL | {"intermediate_size": 24}) == 2 * (4 * 8 * 8 + 2 * 8 * 24)
    assert head_weights(SMALL) == 800


@pytest.mark.parametrize("name", PRESETS)
def test_nearly_all_of_a_published_models_weights_are_counted(name: str) -> None:
    shape = preset(name)
    counted = linear_weights(shape.config()) + head_weights(shape.config())
    positions = shape.max_position_embeddings * shape.hidden_size
    assert counted + positions <= shape.parameters < 1.002 * (counted + positions)


@pytest.mark.parametrize(
    ("tokens", "windowed", "seen"),
    [(5, True, 5 + 5), (16, True, 16 + 16), (50, True, 50 + 16), (50, False, 50 + 50)],
)
def test_local_layers_see_only_their_window(tokens: int, windowed: bool, seen: int) -> None:
    assert cached_values(SMALL, tokens, windowed) == 2 * 8 * seen


def test_a_step_reads_weights_once_and_the_cache_of_every_sequence() -> None:
    weights = 4 * (linear_weights(SMALL) + 800)
    assert bytes_per_step(SMALL, FP32, 5) == weights + 4 * 2 * 8 * 10
    assert bytes_per_step(SMALL, FP32, 5, sequences=3) == weights + 3 * 4 * 2 * 8 * 10


def test_formats_count_with_their_own_sizes() -> None:
    numbers = Numbers(0.5, 1, 2, "int8", windowed=False)
    assert bytes_per_step(SMALL, numbers, 50) == 0.5 * linear_weights(SMALL) + 800 + 2 * 2 * 8 * 100


def test_a_prompt_computes_lm_head_for_its_last_token_only() -> None:
    assert operations_of_prompt(SMALL, 10) == 2 * (10 * linear_weights(SMALL) + 800)
    assert operations_of_prompt(SMALL, 10, sequences=4) == 4 * operations_of_prompt(SMALL, 10)


def test_every_system_is_compared_with_a_format_of_neort() -> None:
    assert set(NUMBERS) == set(SYSTEMS)
    for name, system in SYSTEMS.items():
        assert NUMBERS[name].products in ("int8", "fp32", "bf16")
        assert name.startswith("neort") or system.compared_with
        assert all(SYSTEMS[ours].module == "ours" for ours in system.compared_with)
