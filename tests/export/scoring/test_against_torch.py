"""Scores against transformers: log-probabilities, options, perplexity by windows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPTNeoForCausalLM

import neort
from checkpoints import POSITIONS
from neort.scoring import rolling_windows

CONTEXT = "It was the best of times, "
TEXTS = ["it was", " the worst of times", "x" * 60, "é 日本"]


@pytest.fixture(scope="module")
def loaded(fp32_bundle: Path) -> neort.Model:
    return neort.load(fp32_bundle, num_threads=2)


@torch.inference_mode()
def torch_logprobs(model: GPTNeoForCausalLM, ids: list[int], count: int) -> list[float]:
    """Those of the last ``count`` of some tokens."""
    logprobs = model(torch.tensor([ids[:-1]])).logits[0].double().log_softmax(-1)
    found: list[float] = logprobs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])][-count:].tolist()
    return found


def test_log_probabilities_are_torchs(model: GPTNeoForCausalLM, loaded: neort.Model) -> None:
    """White space at the context's end belongs to the text."""
    scores = loaded.score(TEXTS, CONTEXT)
    for text, score in zip(TEXTS, scores, strict=True):
        ids = loaded.tokenizer.encode(CONTEXT + text)
        count = len(loaded.tokenizer.encode(f" {text}"))
        assert list(score.token_ids) == ids[-count:]
        np.testing.assert_allclose(score.logprobs, torch_logprobs(model, ids, count), atol=1e-4)


def test_in_fp32_too_a_text_has_the_same_bits_alone_and_in_a_list(loaded: neort.Model) -> None:
    assert loaded.score(TEXTS, CONTEXT) == [loaded.score(text, CONTEXT) for text in TEXTS]


def test_options_have_torchs_log_likelihoods(model: GPTNeoForCausalLM, loaded: neort.Model) -> None:
    context = CONTEXT.strip()
    choice = loaded.choose(context, TEXTS, normalize="tokens")
    ids = [loaded.tokenizer.encode(context + text) for text in TEXTS]
    counts = [len(loaded.tokenizer.encode(text)) for text in TEXTS]
    expected = [sum(torch_logprobs(model, *pair)) / pair[1] for pair in zip(ids, counts, strict=True)]
    np.testing.assert_allclose(choice.values, expected, rtol=1e-5)
    assert choice.index == int(np.argmax(expected))


def test_perplexity_is_torchs_over_the_same_windows(model: GPTNeoForCausalLM, loaded: neort.Model) -> None:
    """Two and a half windows: the last one reaches back."""
    text = "".join(TEXTS) * (5 * POSITIONS // 2 // len("".join(TEXTS).encode()))
    ids = loaded.tokenizer.encode(text)
    total = 0.0
    for window in rolling_windows(np.array(ids), loaded.scorer().prefix, POSITIONS):
        whole = [*window.token_ids.tolist(), int(window.targets[-1])]
        total += sum(torch_logprobs(model, whole, len(window.targets)))
    perplexity = loaded.perplexity(text)
    assert perplexity.tokens == len(ids) > 2 * POSITIONS
    assert perplexity.log_likelihood == pytest.approx(total, rel=1e-6)
    assert float(perplexity) == pytest.approx(math.exp(-total / len(ids)), rel=1e-6)
