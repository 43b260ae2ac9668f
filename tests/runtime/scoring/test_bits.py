"""A text's scores are the same bits alone, in any list and beside generation; a prompt's logits in any batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import neort
from neort.arrays import Ids
from neort.backend import DecoderSession
from neort.bundle import Bundle
from neort.kvcache import CacheType

LENGTHS = [[5, 5, 5], [1, 2, 9], [1, 1], [30, 60, 17, 3], [190, 125, 40, 1], [256, 3]]  # the window is 128
TEXTS = [" there was a king", " x", " it rained, and the old man who had come over the hills slept by the fire", " was"]
CONTEXTS = ["Once upon a time", "One", "All day long", "In the old town the miller's youngest son, who had no work,"]


def prompts_of(lengths: Sequence[int], vocab_size: int) -> list[Ids]:
    generator = np.random.default_rng(len(lengths))
    return [generator.integers(0, vocab_size, length) for length in lengths]


@pytest.mark.parametrize("num_threads", [1, 2, 8])
def test_prompts_that_are_read_together_get_the_bits_of_each_alone(
    bundle_path: Path, kv_cache: CacheType, num_threads: int
) -> None:
    """Rows of the cache and logits of every position, and each one's own last where nothing else is wanted."""
    session = DecoderSession(Bundle(bundle_path), num_threads=num_threads, max_batch_size=5, kv_cache=kv_cache)
    session.reserve(5, [])
    for lengths in LENGTHS:
        prompts = prompts_of(lengths, session.spec.vocab_size)
        logits = session.prefill_prompts(1, prompts, max(lengths))
        last = session.prefill_prompts(1, prompts, 1)
        rows = [session.read(slot, 0, len(prompt)) for slot, prompt in enumerate(prompts, start=1)]
        for prompt, together, final, kept in zip(prompts, logits, last, rows, strict=True):
            whole = session.prefill(0, prompt, 0, len(prompt))
            np.testing.assert_array_equal(together[max(lengths) - len(prompt) :], whole)
            np.testing.assert_array_equal(final, whole[-1:])
            np.testing.assert_array_equal(session.prefill(0, prompt, 0, 1)[0], whole[-1])
            for name, part in session.read(0, 0, len(prompt)).items():
                np.testing.assert_array_equal(part, kept[name])


def test_other_slots_are_left_alone_by_prompts_that_are_read_together(bundle_path: Path) -> None:
    session = DecoderSession(Bundle(bundle_path), num_threads=1, max_batch_size=4)
    session.reserve(4, [])
    first, *others = prompts_of([40, 20, 30], session.spec.vocab_size)
    session.prefill(0, first, 0, 0)
    session.move(0, 3, len(first))
    before = session.read(0, 0, len(first))
    session.prefill_prompts(1, others, 0)
    for slot in (0, 3):
        for name, rows in session.read(slot, 0, len(first)).items():
            np.testing.assert_array_equal(rows, before[name])


def test_a_text_has_the_same_bits_alone_and_in_a_list(bundle_path: Path, kv_cache: CacheType) -> None:
    model = neort.load(bundle_path, num_threads=2, kv_cache=kv_cache, max_batch_size=3)
    together = model.score(TEXTS, CONTEXTS)
    assert together == [model.score(text, context) for text, context in zip(TEXTS, CONTEXTS, strict=True)]
    assert together == model.score(TEXTS[::-1], CONTEXTS[::-1])[::-1]


def test_a_long_document_has_the_same_bits_alone_and_beside_others(model: neort.Model) -> None:
    """Windows of 512 tokens, each run in two chunks."""
    document = " ".join(TEXTS * 25)
    alone = model.perplexity(document)
    assert alone.tokens > model.spec.max_position_embeddings
    assert model.perplexity([TEXTS[2], document, TEXTS[3]])[1] == alone


def test_scores_are_those_of_the_logits(model: neort.Model) -> None:
    ids = model.tokenizer.encode(CONTEXTS[0] + TEXTS[0])
    logits = model.logits(ids[:-1]).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    score = model.score(TEXTS[0], CONTEXTS[0])
    count = len(score.token_ids)
    assert list(score.token_ids) == ids[-count:]
    expected = logprobs[np.arange(len(ids) - 1), ids[1:]][-count:]
    np.testing.assert_allclose(score.logprobs, expected, rtol=1e-6)
    assert score.log_likelihood == pytest.approx(expected.sum(), rel=1e-6)


def test_what_greedy_decoding_gives_is_greedy(model: neort.Model) -> None:
    text = model.generate(CONTEXTS[0], do_sample=False, max_new_tokens=4).text
    assert model.score(text, CONTEXTS[0]).is_greedy
    assert not model.score(f"{text} zebra", CONTEXTS[0]).is_greedy


def test_options_have_the_scores_of_texts_after_the_context(model: neort.Model) -> None:
    """Up to rounding: a context that is read once for all is read in a run of its own."""
    options = [" was old", " was", " was very tired", " had a dog"]
    choice = model.choose(CONTEXTS[3], options)
    scores = model.score(options, CONTEXTS[3])
    for one, other in zip(choice.scores, scores, strict=True):
        assert one.token_ids == other.token_ids
        np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=0, atol=0.05)
    assert choice.index == int(np.argmax([score.log_likelihood for score in scores]))
    assert model.choose(CONTEXTS[3], options) == choice


def test_scoring_beside_generation_changes_neither(bundle_path: Path) -> None:
    model = neort.load(bundle_path, num_threads=2, max_batch_size=3)
    alone, scores = model.generate(CONTEXTS[0], max_new_tokens=60).text, model.score(TEXTS, CONTEXTS)
    stream = model.stream(CONTEXTS[0], max_new_tokens=60)
    first = next(stream).text
    assert model.score(TEXTS, CONTEXTS) == scores
    assert first + "".join(piece.text for piece in stream) == alone


def test_scoring_waits_until_a_sequence_leaves_it_a_slot(bundle_path: Path) -> None:
    model = neort.load(bundle_path, num_threads=2, max_batch_size=1)
    scores = model.score(TEXTS[:2])
    stream = model.stream(CONTEXTS[0], max_new_tokens=30)
    next(stream)
    assert model.score(TEXTS[:2]) == scores
    assert sum(1 for _ in stream) > 0
