"""Parity with transformers: each processor, the whole pipeline of `generate`, and torch's softmax."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from neort.arrays import Ids, Logits
from neort.generation import GenerationConfig, processors, samplers

INF = math.inf
NO_IDS = np.zeros(0, np.int64)


@pytest.fixture(scope="module")
def hf() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torch", exc_type=ImportError)
        yield pytest.importorskip("transformers.generation.logits_process", exc_type=ImportError)


def random_logits(seed: int) -> Logits:
    """Logits [V] of a random size and scale, a third of them tied, some of them excluded."""
    rng = np.random.default_rng(seed)
    size = int(rng.choice([7, 97, 3000]))
    x = rng.standard_normal(size) * rng.choice([1e-3, 1.0, 5.0, 100.0, 1e4])
    if seed % 3 == 0:
        x = np.round(x)
    if seed % 4 == 0:
        x[rng.random(size) < 0.5] = -INF
        x[size // 2] = 0.5
    return np.asarray(x, np.float32)


def assert_parity(ours: processors.LogitsProcessor, theirs: Any, seed: int) -> None:
    import torch

    x = random_logits(seed)
    seen = np.random.default_rng(seed).integers(0, len(x), 5)
    expected = theirs(torch.from_numpy(seen)[None], torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_array_equal(ours(seen, x), expected)


@pytest.mark.parametrize("penalty", [0.7, 1.2, 3.0])
def test_repetition_penalty_gives_the_bits_of_transformers(hf: Any, penalty: float) -> None:
    for seed in range(12):
        theirs = hf.RepetitionPenaltyLogitsProcessor(penalty)
        assert_parity(processors.RepetitionPenalty(penalty), theirs, seed)


@pytest.mark.parametrize("length", [0, 5, 6, 100])
def test_minimum_lengths_give_the_bits_of_transformers(hf: Any, length: int) -> None:
    for seed in range(12):
        assert_parity(processors.MinLength((1, 6), length), hf.MinLengthLogitsProcessor(length, [1, 6]), seed)
        theirs = hf.MinNewTokensLengthLogitsProcessor(2, length, [1, 6])
        assert_parity(processors.MinLength((1, 6), 2 + length), theirs, seed)


@pytest.mark.parametrize("value", [0.01, 0.7, 1.3, 50.0])
def test_temperature_gives_the_bits_of_transformers(hf: Any, value: float) -> None:
    for seed in range(12):
        assert_parity(processors.Temperature(value), hf.TemperatureLogitsWarper(value), seed)


@pytest.mark.parametrize("k", [1, 2, 6, 50, 2999, 5000])
def test_top_k_gives_the_bits_of_transformers(hf: Any, k: int) -> None:
    for seed in range(24):
        assert_parity(processors.TopK(k), hf.TopKLogitsWarper(k), seed)


def top_p_margin(x: Logits, p: float) -> float:
    """How far the nearest cumulative probability is from the cut: float32 may decide either way near 0."""
    return float(np.abs(np.cumsum(np.sort(samplers.softmax(x))) - (1 - p)).min())


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.95, 0.999])
def test_top_p_keeps_the_tokens_that_transformers_keeps(hf: Any, p: float) -> None:
    """The same tokens, but among equals at the cut, which torch's unstable sort orders anyhow: there as many."""
    import torch

    exact = 0
    for x in map(random_logits, range(60)):
        if p > 0 and top_p_margin(x, p) < 1e-6:
            continue
        ours = processors.TopP(p)(NO_IDS, x)
        theirs = hf.TopPLogitsWarper(p)(None, torch.from_numpy(x)[None])[0].numpy()
        np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))
        cut = theirs[theirs > -INF].min()
        if np.count_nonzero(x == cut) == np.count_nonzero(theirs == cut):
            np.testing.assert_array_equal(ours, theirs)
            exact += 1
    assert exact > 20


@pytest.fixture(scope="module")
def tiny_gpt_neo(hf: Any) -> Any:
    import torch
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    config = GPTNeoConfig(
        vocab_size=97, hidden_size=16, num_layers=1, num_heads=2, attention_types=[[["global"], 1]],
        max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = GPTNeoForCausalLM(config).eval()
        model.lm_head.weight.data *= 40  # logits with a spread like a trained model's
    return model


OPTIONS: dict[str, list[Any]] = {
    "repetition_penalty": [None, 1.0, 1.3],
    "min_length": [None, 0, 10],
    "min_new_tokens": [None, 0, 3],
    "temperature": [None, 1.0, 0.6, 2.5],
    "top_k": [None, 0, 5, 200],
    "top_p": [None, 1.0, 0.8],
    "eos_token_id": [None, 3, list(range(0, 97, 2))],
}


def random_options(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    options = {name: values[rng.integers(len(values))] for name, values in OPTIONS.items()}
    return options | {"do_sample": True, "max_new_tokens": 6}


def transformers_scores(model: Any, prompt: Ids, options: dict[str, Any], seed: int) -> Any:
    """transformers' own `generate`: the ids [T], and raw and processed logits [V] of each step."""
    import torch

    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        out = model.generate(
            torch.from_numpy(prompt)[None],
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            **options,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_logits=True,
            output_scores=True,
        )
    steps = [(raw[0].numpy(), scores[0].numpy()) for raw, scores in zip(out.logits, out.scores, strict=True)]
    return out.sequences[0].numpy(), steps


@pytest.mark.parametrize("seed", range(40))
def test_the_pipeline_gives_the_distributions_of_generate(tiny_gpt_neo: Any, seed: int) -> None:
    options = random_options(seed)
    prompt = np.random.default_rng(seed).integers(0, 97, 1 + seed % 6)
    sequence, steps = transformers_scores(tiny_gpt_neo, prompt, options, seed)
    pipeline = processors.build_processors(GenerationConfig(**options), len(prompt), 97)
    for step, (processed, expected) in enumerate(steps):
        for processor in pipeline:
            processed = processor(sequence[: len(prompt) + step], processed)  # noqa: PLW2901
        np.testing.assert_array_equal(np.isfinite(processed), np.isfinite(expected))
        np.testing.assert_allclose(samplers.softmax(processed), samplers.softmax(expected), atol=1e-6)


def test_greedy_takes_the_tokens_of_generate(tiny_gpt_neo: Any) -> None:
    prompt = np.arange(1, 6)
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": 8, "repetition_penalty": 1.5, "eos_token_id": None}
    sequence, steps = transformers_scores(tiny_gpt_neo, prompt, options, 0)
    (processor,) = processors.build_processors(GenerationConfig(**options), len(prompt), 97)
    chosen = [samplers.greedy(processor(sequence[: 5 + step], raw)) for step, (raw, _) in enumerate(steps)]
    assert chosen == sequence[5:].tolist()


def test_softmax_and_greedy_agree_with_torch() -> None:
    torch = pytest.importorskip("torch", exc_type=ImportError)
    for seed in range(24):
        x = random_logits(seed)
        tensor = torch.from_numpy(x)
        np.testing.assert_allclose(samplers.softmax(x), tensor.double().softmax(-1).numpy(), rtol=1e-12)
        expected = tensor.double().log_softmax(-1).numpy()
        np.testing.assert_allclose(samplers.log_softmax(x), expected, rtol=1e-12, atol=1e-12)
        assert samplers.greedy(x) == int(tensor.argmax())
