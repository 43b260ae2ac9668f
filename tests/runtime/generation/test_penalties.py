"""Penalties, biases and bans against their definitions, written out one token at a time."""

from __future__ import annotations

import copy
import math
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neort
from neort.arrays import Ids, Logits
from neort.generation import GenerationConfig, PrefixAllowed, build_processors, processors
from neort.generation.processors import dry
from neort.generation.processors.dry import LONGEST_TAIL

INF = math.inf
V = 9

texts = st.lists(st.integers(0, 4) | st.integers(0, V - 1), max_size=24).map(lambda ids: np.array(ids, np.int64))
some = settings(max_examples=25, deadline=None)


def logits_of(seed: int) -> Logits:
    return np.random.default_rng(seed).standard_normal(V).astype(np.float32)


X = logits_of(0)


@given(texts, st.integers(0, 6), st.floats(-2, 2), st.floats(-2, 2))
@some
def test_occurrences_count_in_the_new_text_alone(ids: Ids, prompt: int, frequency: float, presence: float) -> None:
    processed = processors.OccurrencePenalties(prompt, frequency, presence)(ids, X)
    new = ids.tolist()[prompt:]
    expected = [x - frequency * new.count(token) - presence * (token in new) for token, x in enumerate(X)]
    np.testing.assert_allclose(processed, expected, rtol=1e-5, atol=1e-5)


@given(texts, st.integers(1, 4))
@some
def test_no_sequence_of_tokens_comes_up_twice(ids: Ids, size: int) -> None:
    known = ids.tolist()
    seen = {tuple(known[i : i + size]) for i in range(len(known) - size + 1)}
    processed = processors.NoRepeatNGram(size)(ids, X)
    for token in range(V):
        repeats = len(known) >= size and tuple([*known, token][-size:]) in seen
        assert processed[token] == (-INF if repeats else X[token])


sequences = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)


@given(texts, st.dictionaries(sequences, st.floats(-5, 5), max_size=20))
@some
def test_a_bias_is_added_to_what_completes_a_sequence(ids: Ids, biases: dict[tuple[int, ...], float]) -> None:
    processed = processors.SequenceBias(biases.items())(ids, X)
    for token in range(V):
        after = (*ids.tolist(), token)
        expected = X[token] + sum(bias for ends, bias in biases.items() if after[-len(ends) :] == ends)
        assert processed[token] == pytest.approx(expected, abs=1e-5)


@given(texts, st.lists(sequences, min_size=1), st.lists(st.integers(0, 4)))
@some
def test_a_bad_word_never_comes_up_but_for_an_end_of_text(ids: Ids, words: Any, eos: list[int]) -> None:
    processed = processors.bad_words(words, eos)(ids, X)
    banned = [word for word in words if word not in [(token,) for token in eos]]
    for token in range(V):
        after = (*ids.tolist(), token)
        assert processed[token] == (-INF if any(after[-len(word) :] == word for word in banned) else X[token])


def test_ids_outside_the_vocabulary_change_nothing() -> None:
    options: dict[str, Any] = {
        "logit_bias": {99: 1.0},
        "sequence_bias": [[[1, 99], 1.0]],
        "bad_words_ids": [[99], [1, 99]],
        "suppress_tokens": [99],
        "begin_suppress_tokens": [99],
        "eos_token_id": [99],
        "min_new_tokens": 3,
        "exponential_decay_length_penalty": [0, 2.0],
    }
    processed = X
    for processor in build_processors(GenerationConfig(**options), 2):
        processed = processor(np.array([3, 1]), processed)
    np.testing.assert_array_equal(processed, X)


# DRY


def dry_as_defined(ids: list[int], x: Logits, dry: processors.Dry, heads: dict[int, Any]) -> list[float]:
    """llama.cpp's definition, by trying every earlier place for every token."""
    if dry.last_n >= 0:
        ids = ids[len(ids) - dry.last_n :] if dry.last_n < len(ids) else ids
    limit = len(ids)
    for back in range(len(ids)):
        place = len(ids) - 1 - back
        after = ids[place + 1 :]
        matching = [len(tail) for tail in heads.get(ids[place], ()) if after[: len(tail)] == list(tail)]
        if matching:
            limit = back - max(matching)
            break
    expected = []
    for token in range(V):
        longest = 0
        for place in range(1, len(ids)):
            length = 0
            while length < min(place, limit) and ids[place - 1 - length] == ids[len(ids) - 1 - length]:
                length += 1
            if ids[place] == token:
                longest = max(longest, length)
        penalized = longest >= dry.allowed_length and limit >= dry.allowed_length and () not in heads.get(token, ())
        penalty = dry.multiplier * dry.base ** (longest - dry.allowed_length) if penalized else 0.0
        expected.append(float(x[token]) - penalty)
    return expected


tails = st.lists(st.lists(st.integers(0, 4), max_size=2).map(tuple), min_size=1, max_size=2).map(tuple)


@given(
    ids=st.lists(st.integers(0, 3), max_size=30),
    heads=st.dictionaries(st.integers(0, V - 1), tails, max_size=2),
    allowed=st.integers(1, 4),
    last_n=st.just(-1) | st.integers(1, 30),
)
@some
def test_dry_penalizes_by_the_length_of_the_longest_repetition(
    ids: list[int], heads: dict[int, Any], allowed: int, last_n: int
) -> None:
    dry = processors.Dry(0.8, 1.75, allowed, last_n, processors.Breakers(heads))
    expected = dry_as_defined(ids, X, dry, heads)
    np.testing.assert_allclose(dry(np.array(ids, np.int64), X), expected, rtol=1e-5, atol=1e-5)


def test_drys_penalty_stays_a_number_however_long_the_repetition() -> None:
    ids = np.zeros(1000, np.int64)
    processed = processors.Dry(1.0)(ids, X)
    assert processed[0] == pytest.approx(-(1.75**158), rel=1e-3)
    np.testing.assert_array_equal(processed[1:], X[1:])


def test_a_breaker_is_found_within_tokens_and_across_them(model: neort.Model) -> None:
    tokenizer = model.tokenizer
    text = "one two\nthree"
    ids = np.array(tokenizer.encode(text))
    assert processors.breakers_of(["\n"], tokenizer).distance(ids) == len(tokenizer.encode("three"))
    assert processors.breakers_of(["?"], tokenizer).distance(ids) == len(ids)
    across = processors.breakers_of(["o\nt"], tokenizer)
    assert across.distance(np.array(tokenizer.encode("one two\nt!"))) == 1
    assert not across.holds(int(ids[0]))
    (newline,) = tokenizer.encode("\n")
    assert processors.breakers_of(["?", "\n"], tokenizer).holds(newline)
    assert LONGEST_TAIL == 20


def test_breakers_that_differ_beyond_what_is_looked_at_are_looked_up_once(model: neort.Model) -> None:
    known = len(dry._KNOWN[model.tokenizer]) if model.tokenizer in dry._KNOWN else 0
    long = "?" * dry.LONGEST_BREAKER
    processors.breakers_of([long + "a", long + "b"], model.tokenizer)
    assert len(dry._KNOWN[model.tokenizer]) <= known + 1


def test_no_more_than_some_breakers_are_remembered(model: neort.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry, "KEPT", 3)
    monkeypatch.setattr(dry, "_KNOWN", WeakKeyDictionary())
    for number in range(8):
        processors.breakers_of([f"~{number}"], model.tokenizer)
    assert list(dry._KNOWN[model.tokenizer]) == [b"~5", b"~6", b"~7"]


def test_dry_stops_at_the_breakers_of_the_configuration(model: neort.Model) -> None:
    ids = np.array(model.tokenizer.encode("a b c d:\na b c"))
    free = GenerationConfig(dry_multiplier=1.0, dry_sequence_breakers=())
    logits = np.zeros(model.spec.vocab_size, np.float32)
    (dry,) = build_processors(free, 0, tokenizer=model.tokenizer)
    next_token = model.tokenizer.encode(" d")[0]
    assert dry(ids, logits)[next_token] < 0
    (dry,) = build_processors(free.replace(dry_sequence_breakers=" c"), 0, tokenizer=model.tokenizer)
    np.testing.assert_array_equal(dry(ids, logits), logits)


# What the caller's function allows


@pytest.mark.parametrize("returned", [[], None, "ab", [-1], [V], [0.5], [[1]], [[1], [1, 2]]])
def test_what_an_allowing_function_returns_is_checked(returned: Any) -> None:
    with pytest.raises(neort.LogitsError, match=r"prefix_allowed_tokens_fn returned .* for prompt 3; .* from 0 to 8"):
        PrefixAllowed(lambda prompt, ids: returned, 3)(np.arange(2), X)


def test_allowed_tokens_that_are_all_ruled_out_are_equal_again() -> None:
    ruled_out = np.where(np.arange(V) < 2, -INF, X).astype(np.float32)
    processed = PrefixAllowed(lambda prompt, ids: [0, 1], 0)(np.arange(2), ruled_out)
    np.testing.assert_array_equal(processed, [0, 0] + [-INF] * (V - 2))


# Whatever ids come


@given(before=texts, after=texts)
@some
def test_no_processor_remembers_the_ids_of_another_call(before: Ids, after: Ids) -> None:
    config = GenerationConfig(
        repetition_penalty=1.2,
        frequency_penalty=0.5,
        presence_penalty=0.5,
        no_repeat_ngram_size=2,
        bad_words_ids=[[1, 2], [3]],
        sequence_bias=[[[2, 3], 1.0], [[4], 1.0]],
        dry_multiplier=1.0,
        exponential_decay_length_penalty=(2, 1.5),
        eos_token_id=8,
        min_new_tokens=4,
    )
    chain = build_processors(config, 3)
    for ids in (before, after):
        fresh, used = X, X
        for new, old in zip(build_processors(config, 3), copy.deepcopy(chain), strict=True):
            fresh, used = new(ids, fresh), old(ids, used)
        np.testing.assert_array_equal(fresh, used)
        for processor in chain:
            processor(ids, X)
