"""Beams, guidance and log-probabilities of an fp32 bundle against transformers' own of the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPTNeoForCausalLM

import neort
from checkpoints import Ids, random_ids, torch_logits

PADDING = 310
COUNT = 14  # new tokens


@pytest.fixture(scope="module")
def bundle(fp32_bundle: Path) -> neort.Model:
    return neort.load(fp32_bundle, num_threads=1)


def theirs(model: GPTNeoForCausalLM, prompt: Ids, **options: Any) -> tuple[list[list[int]], list[float]]:
    """What transformers' generate adds to a prompt, without padding, and the scores of beams."""
    ids = torch.as_tensor(prompt)[None]
    negative = options.get("negative_prompt_ids")
    if negative is not None:
        options["negative_prompt_ids"] = torch.as_tensor(negative)[None]
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        pad_token_id=PADDING,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    rows = [[token for token in row[len(prompt) :].tolist() if token != PADDING] for row in out.sequences]
    scores = getattr(out, "sequences_scores", None)
    return rows, [] if scores is None else scores.tolist()


def ends(bundle: neort.Model, prompt: Ids, count: int) -> list[int]:
    """Tokens that beams come to in their middle: as end-of-text tokens they end some early."""
    (best, *_) = bundle.generate(prompt, num_beams=4, max_new_tokens=COUNT, num_return_sequences=1)
    return list(dict.fromkeys(best.token_ids[3:]))[:count]


@pytest.mark.parametrize(
    ("options", "eos", "length"),
    [
        ({"num_beams": 3}, 0, 25),
        ({"num_beams": 4, "early_stopping": True}, 1, 1),
        ({"num_beams": 4, "early_stopping": "never", "length_penalty": 2.0}, 2, 25),
        ({"num_beams": 2, "length_penalty": -1.0, "min_new_tokens": 6}, 1, 9),
        ({"num_beams": 5, "length_penalty": 0.0, "repetition_penalty": 1.4}, 3, 25),
        ({"num_beams": 8, "max_new_tokens": 1}, 1, 1),
    ],
    ids=str,
)
def test_beams_and_their_scores_are_transformers(
    model: GPTNeoForCausalLM, bundle: neort.Model, options: dict[str, Any], eos: int, length: int
) -> None:
    prompt = random_ids(length, seed=length)
    options = {"max_new_tokens": COUNT, "num_return_sequences": options["num_beams"], **options}
    if eos:
        options["eos_token_id"] = ends(bundle, prompt, eos)
    rows, scores = theirs(model, prompt, **options)
    mine = bundle.generate(prompt, **options)
    assert [list(each.token_ids) for each in mine] == rows
    assert [each.score for each in mine] == pytest.approx(scores, rel=1e-5, abs=1e-4)
    assert {each.finish_reason for each in mine} <= {"stop", "length"}


def test_beams_end_with_a_stop_string_that_is_no_part_of_the_text(bundle: neort.Model) -> None:
    prompt = random_ids(9)
    plain, *_ = bundle.generate(prompt, num_beams=3, max_new_tokens=COUNT, num_return_sequences=1)
    stop = next(text for token in plain.token_ids[4:] if (text := bundle.tokenizer.decode([token])) != "\ufffd")
    for each in bundle.generate(prompt, num_beams=3, num_return_sequences=3, max_new_tokens=COUNT, stop_strings=stop):
        ended = bundle.tokenizer.decode(each.token_ids).endswith(stop)
        assert (each.finish_reason == "stop") == ended
        assert stop not in each.text


@pytest.mark.parametrize(("scale", "negative"), [(0.0, None), (1.7, 30), (3.0, 1)])
def test_guided_tokens_are_transformers(
    model: GPTNeoForCausalLM, bundle: neort.Model, scale: float, negative: int | None
) -> None:
    prompt = random_ids(12, seed=5)
    ids = None if negative is None else random_ids(negative, seed=6)
    options: dict[str, Any] = {"max_new_tokens": COUNT, "guidance_scale": scale, "repetition_penalty": 1.2}
    (expected,), _ = theirs(model, prompt, negative_prompt_ids=ids, do_sample=False, **options)
    mine = bundle.generate(prompt, negative_prompt=ids, **options)
    assert list(mine.token_ids) == expected


def test_logprobs_equal_torchs_log_softmax(model: GPTNeoForCausalLM, bundle: neort.Model) -> None:
    """Prompts side by side; the second time they are in the prefix cache."""
    prompts = [random_ids(length, seed=length) for length in (1, 9, 70)]
    outs = [out for _ in range(2) for out in bundle.generate(prompts, max_new_tokens=8, logprobs=4, prompt_logprobs=2)]
    for out, prompt in zip(outs, prompts * 2, strict=True):
        assert out.logprobs is not None
        assert out.prompt_logprobs is not None
        assert out.prompt_logprobs[0] is None
        text = [*prompt.tolist(), *out.token_ids]
        expected = torch.log_softmax(torch.as_tensor(torch_logits(model, text)), -1).numpy()
        for position, entry in enumerate([*out.prompt_logprobs[1:], *out.logprobs]):
            assert entry is not None
            row, count = expected[position], 4 if position >= len(prompt) - 1 else 2
            assert entry.token_id == text[position + 1]
            assert abs(entry.logprob - row[entry.token_id]) < 1e-5
            assert np.abs(np.array([value for _, value in entry.top]) - np.sort(row)[::-1][:count]).max() < 1e-5
            assert all(abs(row[token] - value) < 1e-5 for token, value in entry.top)
