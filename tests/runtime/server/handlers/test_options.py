"""What a bundle's own options come to where a request says nothing, and where it does."""

from __future__ import annotations

from typing import Any

import pytest

from neort import GenerationConfig
from neort.server.handlers.generating.options import options_of
from neort.server.protocol.requests import CompletionRequest


def options(base: GenerationConfig, **fields: Any) -> GenerationConfig:
    request = CompletionRequest(prompt="a", **fields)
    return options_of(
        request, base, max_tokens=request.max_tokens, default_max_tokens=16, logprobs=None, count=request.n
    )


def test_without_a_word_tokens_are_sampled_from_the_whole_vocabulary() -> None:
    config = options(GenerationConfig(eos_token_id=7))
    assert (config.do_sample, config.temperature, config.top_k, config.top_p) == (True, 1.0, 0, None)
    assert (config.max_new_tokens, config.overflow, config.eos_token_id) == (16, "stop", 7)


def test_what_the_bundle_says_holds_where_the_request_does_not() -> None:
    base = GenerationConfig(do_sample=True, temperature=0.6, top_k=40, top_p=0.9, repetition_penalty=1.2)
    config = options(base)
    assert (config.temperature, config.top_k, config.top_p, config.repetition_penalty) == (0.6, 40, 0.9, 1.2)
    config = options(base, temperature=1.5, top_k=-1)
    assert (config.temperature, config.top_k, config.top_p) == (1.5, 0, 0.9)


def test_a_bundle_that_wants_greedy_decoding_gets_it_until_a_request_has_a_temperature() -> None:
    base = GenerationConfig(do_sample=False)
    assert options(base, top_p=0.5).do_sample is False
    assert options(base, temperature=0.5).do_sample is True
    assert options(GenerationConfig(do_sample=True, temperature=0.5, top_p=0.5), temperature=0).do_sample is False


def test_a_bundle_s_beams_are_left_out() -> None:
    config = options(GenerationConfig(num_beams=4, length_penalty=2.0, early_stopping=True))
    assert (config.num_beams, config.length_penalty) == (1, 1.0)


@pytest.mark.parametrize(
    ("fields", "ends"),
    [
        ({}, (7,)),
        ({"stop_token_ids": [8, 8, 9]}, (7, 8, 9)),
        ({"ignore_eos": True}, ()),
        ({"ignore_eos": True, "stop_token_ids": [8]}, (8,)),
    ],
)
def test_tokens_that_end_a_text_are_the_bundle_s_and_the_request_s(fields: Any, ends: tuple[int, ...]) -> None:
    assert options(GenerationConfig(eos_token_id=7), **fields).eos_token_ids == ends


def test_a_seed_of_minus_one_is_none() -> None:
    assert options(GenerationConfig(), seed=-1).seed is None
    assert options(GenerationConfig(), seed=0).seed == 0
