"""Parity with transformers: each option alone, and chains of options drawn at random, on random logits.

The reference is the list that `GenerationMixin._get_logits_processor` of the installed release makes, with its own
classes. Where rounding decides what is kept, so that transformers' own answers in float32 and float64 differ, there is
nothing to compare.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig as TheirConfig
from transformers.generation import logits_process
from transformers.generation.utils import GenerationMixin

from neort import GenerationConfig
from neort.arrays import Ids, Logits
from neort.generation import PrefixAllowed, build_processors

V = 97
FEW = 8  # tokens in most texts, so that they repeat
LENGTHS = {"max_new_tokens": 12}

token = st.integers(0, FEW) | st.integers(0, V - 1)
tokens = st.lists(token, min_size=1, max_size=4)
share = st.floats(0.01, 0.99)

GREEDY: dict[str, st.SearchStrategy[Any]] = {
    "sequence_bias": st.lists(st.tuples(tokens, st.floats(-10, 10)).map(list), min_size=1, max_size=12),
    "repetition_penalty": st.floats(0.5, 2.0),
    "no_repeat_ngram_size": st.integers(0, 4),
    "bad_words_ids": st.lists(tokens, min_size=1, max_size=6),
    "min_length": st.integers(0, 20),
    "min_new_tokens": st.integers(0, 12),
    "forced_bos_token_id": token,
    "forced_eos_token_id": token | tokens,
    "remove_invalid_values": st.booleans(),
    "exponential_decay_length_penalty": st.tuples(st.integers(0, 8), st.floats(0.5, 2.0)),
    "suppress_tokens": tokens,
    "begin_suppress_tokens": tokens,
    "renormalize_logits": st.booleans(),
}
SAMPLING: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0.1, 5.0),
    "top_h": share,
    "top_k": st.integers(0, 120),
    "top_p": st.just(0.0) | share | st.just(1.0),
    "min_p": st.just(0.0) | share | st.just(1.0),
    "typical_p": share | st.just(1.0),
    "epsilon_cutoff": st.floats(0, 0.2),
    "eta_cutoff": st.floats(0, 0.2),
}
if not hasattr(logits_process, "TopHLogitsWarper"):  # transformers 4
    del SAMPLING["top_h"]
OFF = {"top_k": 0}  # which would be 50

eos = st.none() | token | tokens
case = st.tuples(st.integers(1, 8), st.integers(0, 12), st.integers(0, 2**32 - 1))  # prompt, new tokens, seed


def chain_of_transformers(options: dict[str, Any], prompt_length: int, allowed: Any = None, least: int = 1) -> Any:
    """What `generate` of transformers applies to the scores of each step."""
    generator = object.__new__(GenerationMixin)
    generator.config = type("Config", (), {"is_encoder_decoder": False})()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = TheirConfig(**options, num_beams=1, num_return_sequences=1)
    if config.sequence_bias is not None:  # as a list transformers 4 refuses token 0
        config.sequence_bias = {tuple(ids): bias for ids, bias in config.sequence_bias}
    ends = options.get("eos_token_id")
    config._eos_token_tensor = None if ends is None else torch.tensor([ends] if isinstance(ends, int) else ends)
    if least > 1:
        config.num_beams, config._eos_token_tensor = 2, torch.arange(least - 1)
    config.max_length = prompt_length + config.max_new_tokens
    if config.min_new_tokens is not None:
        config.min_length = prompt_length + config.min_new_tokens
    return generator._get_logits_processor(
        config,
        input_ids_seq_length=prompt_length,
        encoder_input_ids=torch.zeros(1, 1, dtype=torch.int64),
        prefix_allowed_tokens_fn=allowed,
        logits_processor=[],
        device="cpu",
        model_kwargs={},
    )


def random_logits(rng: np.random.Generator, *, invalid: bool) -> Logits:
    """Logits [V] of a random scale, a third of them with ties, some of them with tokens ruled out."""
    x = rng.standard_normal(V) * rng.choice([1e-3, 1.0, 3.0, 10.0, 100.0])
    if rng.random() < 0.3:
        x = np.round(x)
    if rng.random() < 0.3:
        x[rng.random(V) < 0.5] = -math.inf
    if invalid:
        x[rng.random(V) < 0.1] = rng.choice([math.nan, math.inf, -math.inf])
    x[rng.integers(V)] = 0.5
    return np.asarray(x, np.float32)


def random_ids(rng: np.random.Generator, length: int) -> Ids:
    return np.where(rng.random(length) < 0.9, rng.integers(0, FEW, length), rng.integers(0, V, length))


def ruled_out(logits: Logits) -> Any:
    return np.isneginf(logits)


def assert_parity(options: dict[str, Any], drawn: tuple[int, int, int], allowed: Any = None, least: int = 1) -> None:
    prompt_length, new, seed = drawn
    rng = np.random.default_rng(seed)
    ids = random_ids(rng, prompt_length + new)
    # Of the largest numbers in place of infinities transformers' top_h takes the entropy as 0.
    logits = random_logits(rng, invalid=options.get("remove_invalid_values", False) and "top_h" not in options)
    options = {**LENGTHS, **OFF, **options}

    theirs = chain_of_transformers(options, prompt_length, allowed, least)
    try:
        expected = theirs(torch.from_numpy(ids)[None], torch.from_numpy(logits)[None])[0].numpy()
        exact = theirs(torch.from_numpy(ids)[None], torch.from_numpy(logits).double()[None])[0].numpy()
    except ValueError:  # torch's, about the entropy where no token is left
        assume(False)
    assume(math.isfinite(expected.max()) and not np.isnan(expected).any())
    assume((ruled_out(expected) == ruled_out(exact)).all())  # else rounding decides

    prefix = None if allowed is None else PrefixAllowed(allowed, 0)
    actual = logits
    for processor in build_processors(GenerationConfig(**options), prompt_length, prefix_allowed=prefix, least=least):
        before = actual.copy()
        processed = processor(ids, actual)
        np.testing.assert_array_equal(actual, before, err_msg="a processor modified its argument")
        actual = processed
    assert actual.dtype == np.float32
    # Of equal logits at some cuts any may be kept.
    tied = len(np.unique(logits)) < V or options.keys() & {"forced_bos_token_id", "forced_eos_token_id"}
    if tied and (options.get("top_p", 1.0) < 1.0 or least > 1 or "top_h" in options):
        actual, expected = np.sort(actual), np.sort(expected)
    np.testing.assert_array_equal(ruled_out(actual), ruled_out(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def forces_what_is_suppressed(options: dict[str, Any]) -> bool:
    """A contradiction, which both refuse."""
    forced = [options.get(name) for name in ("forced_bos_token_id", "forced_eos_token_id")]
    listed = [{each} if isinstance(each, int) else set(each) for each in forced if each is not None]
    return any(each <= set(options.get("suppress_tokens", ())) for each in listed)


few = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
more = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", GREEDY)
@given(data=st.data(), ends=eos, drawn=case)
@few
def test_an_option_of_greedy_decoding_alone(name: str, data: st.DataObject, ends: Any, drawn: Any) -> None:
    assume(ends is not None or name != "exponential_decay_length_penalty")  # which transformers cannot do
    assert_parity({name: data.draw(GREEDY[name]), "eos_token_id": ends, "do_sample": False}, drawn)


@pytest.mark.parametrize("name", SAMPLING)
@given(data=st.data(), drawn=case)
@few
def test_an_option_of_sampling_alone(name: str, data: st.DataObject, drawn: Any) -> None:
    assert_parity({name: data.draw(SAMPLING[name]), "do_sample": True}, drawn)


@given(options=st.fixed_dictionaries({}, optional=GREEDY | SAMPLING), ends=eos, drawn=case)
@more
def test_chains_drawn_at_random(options: dict[str, Any], ends: Any, drawn: Any) -> None:
    assume(not forces_what_is_suppressed(options))
    assume(ends is not None or "exponential_decay_length_penalty" not in options)
    assert_parity({**options, "eos_token_id": ends, "do_sample": True}, drawn)


@given(options=st.fixed_dictionaries({}, optional=SAMPLING), least=st.integers(2, 4), drawn=case)
@few
def test_filters_that_keep_several_tokens_as_in_beam_sampling(options: Any, least: int, drawn: Any) -> None:
    assert_parity({**options, "do_sample": True}, drawn, least=least)


@given(allowed=st.lists(token, min_size=1), drawn=case)
@few
def test_tokens_that_a_function_allows(allowed: list[int], drawn: Any) -> None:
    seen = []

    def function(prompt_index: int, ids: Any) -> list[int]:
        seen.append((prompt_index, len(ids)))
        return allowed

    assert_parity({"do_sample": False}, drawn, function)
    assert set(seen) == {(0, drawn[0] + drawn[1])}
