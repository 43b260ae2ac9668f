"""Drafts for the bundled model: its text and its cache are what they are without."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neort
from neort.backend import DecoderSession
from neort.bundle import Bundle
from neort.kvcache import CacheType
from neort.tokenizer import Tokenizer

EXACT_CACHES = ("int8",)  # attention over several rows has the bits of that over one
NEAR_TIE = 0.02  # difference of two logits that rounding may reverse
PROMPTS = (
    "It was a dark night and",
    "The captain said",
    "My dear, I am so",
    "Once upon a time",
    "CHAPTER I.\n\nThe",
    "He looked at her and",
    "In the year 1815 the French",
    "No, no, no, no, no",
)


def load(bundle: Path, kv_cache: CacheType, **options: Any) -> neort.Model:
    return neort.load(bundle, num_threads=2, max_batch_size=1, kv_cache=kv_cache, **options)


def differences(plain: neort.Model, drafting: neort.Model, prompt: list[int], count: int) -> Iterator[float]:
    """At each token that differs how far apart the two logits are; then both go on with the plain model's token."""
    context, missing = list(prompt), count
    while missing > 0:
        expected, found = (list(m.generate(context, max_new_tokens=missing).token_ids) for m in (plain, drafting))
        same = next((i for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b), None)
        if same is None:
            return
        context += expected[:same]
        logits = plain.logits(context)[-1]
        yield abs(float(logits[expected[same]] - logits[found[same]]))
        context.append(expected[same])
        missing -= same + 1


def test_greedy_text_is_that_of_plain_decoding(bundle_path: Path, kv_cache: CacheType) -> None:
    """900 tokens, each text beyond three windows; only near ties may go the other way, and only few."""
    plain, drafting = load(bundle_path, kv_cache), load(bundle_path, kv_cache, draft="prompt-lookup")
    prompts = [plain.tokenizer.encode(prompt) for prompt in PROMPTS[::4]]
    gaps = [gap for prompt in prompts for gap in differences(plain, drafting, prompt, 450)]
    assert max(gaps, default=0.0) < NEAR_TIE
    assert len(gaps) <= (0 if kv_cache in EXACT_CACHES else 5)  # 5 in 1,000 tokens
    stats = drafting.generate(prompts[0], max_new_tokens=450).stats
    assert stats.accepted_tokens > 150


def looping(model: neort.Model, length: int) -> list[int]:
    """So many tokens of text that the model goes on repeating."""
    start = model.tokenizer.encode("It was a dark night and")
    return [*start, *model.generate(start, max_new_tokens=length - len(start)).token_ids]


def test_text_that_ends_inside_a_draft_is_that_of_plain_decoding(model: neort.Model, bundle_path: Path) -> None:
    """Stop strings and limits at every place of a text that repeats itself."""
    drafting, prompt = load(bundle_path, "fp32", draft="prompt-lookup"), looping(model, 200)
    whole = model.generate(prompt, max_new_tokens=40)
    for stop in (whole.text[place : place + 6] for place in range(20, 100, 9)):
        options: dict[str, Any] = {"max_new_tokens": 40, "stop_strings": [stop]}
        expected, found = (m.generate(prompt, **options) for m in (model, drafting))
        assert (found.text, found.token_ids, found.finish_reason) == (
            expected.text,
            expected.token_ids,
            expected.finish_reason,
        )
    for count in range(1, 40, 3):
        assert drafting.generate(prompt, max_new_tokens=count).token_ids == whole.token_ids[:count]
    assert drafting.generate(prompt, max_new_tokens=40).stats.accepted_tokens > 10


def test_stop_strings_of_special_tokens_end_drafts_batches_and_streams_at_one_token(bundle_path: Path) -> None:
    """The comma is special here: no text shows it, and stop strings are it or hold it."""
    plain, drafting = (
        neort.load(bundle_path, num_threads=2, max_batch_size=2, draft=draft) for draft in (None, "prompt-lookup")
    )
    document = json.loads((bundle_path / "tokenizer.json").read_text(encoding="utf-8"))
    comma = document["model"]["vocab"][","]
    document["added_tokens"].append({"id": comma, "content": ",", "special": True})
    plain.tokenizer = drafting.tokenizer = Tokenizer(document)
    prompts = [looping(plain, 120), plain.tokenizer.encode("No, no, no, no, no")]
    whole = plain.generate(prompts[0], max_new_tokens=40)
    shown = plain.tokenizer.decode(whole.token_ids, skip_special_tokens=False)
    assert "," in shown
    assert "," not in whole.text
    place = shown.rindex(",")
    for stop in (",", shown[place - 3 : place + 4], shown[place - 3 : place + 1]):
        expected = [facts(plain.generate(prompt, max_new_tokens=40, stop_strings=[stop])) for prompt in prompts]
        assert expected[0][2] == "stop"
        for model in (plain, drafting):
            batch = model.generate(prompts, max_new_tokens=40, stop_strings=[stop])
            assert [facts(completion) for completion in batch] == expected
            pieces = list(model.stream(prompts[0], max_new_tokens=40, stop_strings=[stop]))
            ids = sum((piece.token_ids for piece in pieces), ())
            assert ("".join(piece.text for piece in pieces), ids, pieces[-1].finish_reason) == expected[0]


def facts(completion: neort.Completion) -> tuple[str, tuple[int, ...], str]:
    return completion.text, completion.token_ids, completion.finish_reason


def test_the_context_s_end_is_reached_and_not_passed(model: neort.Model, bundle_path: Path) -> None:
    drafting = load(bundle_path, "fp32", draft="prompt-lookup")
    limit = model.spec.max_position_embeddings
    prompt = looping(model, limit - 21)
    expected, found = (m.generate(prompt, max_new_tokens=99, overflow="stop") for m in (model, drafting))
    assert found.token_ids == expected.token_ids
    assert (len(found.token_ids), found.finish_reason) == (22, "length")
    assert found.stats.accepted_tokens > 5
    longer = drafting.generate(prompt, max_new_tokens=300, overflow="truncate_left")
    assert len(longer.token_ids) == 300


def test_rejected_rows_leave_no_trace_where_the_window_moves(bundle_path: Path, kv_cache: CacheType) -> None:
    """The logits after a run do not depend on what was drafted in vain, at any length around the window's steps."""
    bundle = Bundle(bundle_path)
    sessions = [DecoderSession(bundle, num_threads=2, max_batch_size=1, kv_cache=kv_cache) for _ in range(2)]
    draw = np.random.default_rng(0)
    ids = draw.integers(1, bundle.spec.vocab_size, bundle.spec.max_position_embeddings)
    for session in sessions:
        session.reserve(1, [])
        session.prefill(0, ids[:100], 0, 0)
    length = 100
    while length < len(ids) - 20:
        right, rows = int(draw.integers(1, 6)), int(draw.integers(6, 18))
        after = []
        for session in sessions:
            tokens = ids[length : length + rows].copy()
            tokens[right:] = draw.integers(1, bundle.spec.vocab_size, rows - right)
            kept = session.extend(tokens, length)[:right].copy()
            at = np.array([length + right], np.int32)
            after.append(np.concatenate([kept, session.decode(ids[length + right : length + right + 1], at)]))
        np.testing.assert_array_equal(after[0], after[1])
        length += right + 1


def test_the_rows_of_an_extension_are_those_of_a_prefill(bundle_path: Path) -> None:
    """The same run on memory that stays bound: the same bits, whatever ran between."""
    bundle = Bundle(bundle_path)
    session = DecoderSession(bundle, num_threads=2, max_batch_size=2)
    session.reserve(1, [])
    ids = np.random.default_rng(1).integers(1, bundle.spec.vocab_size, 400)
    session.prefill(0, ids[:120], 0, 0)
    for length, rows in [(120, 3), (123, 1), (124, 17), (130, 5), (300, 4), (128, 3), (340, 3), (4, 2)]:
        if length > 200:
            session.prefill(0, ids[:length], 0, 0)
        expected = session.prefill(0, ids[length : length + rows], length, rows).copy()
        np.testing.assert_array_equal(session.extend(ids[length : length + rows], length), expected)
        session.reserve(2, [length + rows])  # moves the buffers at its first call


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 3, "temperature": 0.8}])
def test_a_model_drafts_for_itself(model: neort.Model, bundle_path: Path, options: dict[str, Any]) -> None:
    drafted = load(bundle_path, "fp32", draft=bundle_path)
    found = drafted.generate("The captain said", max_new_tokens=60, **options)
    assert found.token_ids == model.generate("The captain said", max_new_tokens=60, **options).token_ids


def test_a_draft_with_another_vocabulary_is_refused(
    bundle_path: Path, bundle_copy: Path, replace_file: Callable[[str, bytes], None]
) -> None:
    text = (bundle_copy / "tokenizer.json").read_text(encoding="utf-8")
    replace_file("tokenizer.json", text.replace('"Ġthe"', '"Ġthq"').replace("Ġ the", "Ġ thq").encode())
    with pytest.raises(neort.NeortError):
        neort.load(bundle_path, draft=bundle_copy)


def test_a_draft_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(neort.BundleError, match=r"no manifest\.json"):
        neort.load(draft=tmp_path)
