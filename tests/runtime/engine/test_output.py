"""Collectors: special tokens and end-of-text tokens end a text by a stop string, and are no part of it; results."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import neort
from neort.engine import Collector
from neort.generation import GenerationConfig
from neort.tokenizer import Tokenizer

BYTES = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
LETTERS = {byte: chr(byte) for byte in BYTES} | {
    byte: chr(0x100 + i) for i, byte in enumerate(sorted(set(range(256)) - set(BYTES)))
}
END, SPECIAL, ADDED = 256, 257, 258
CONTENTS = {END: ("<end>", True), SPECIAL: ("<s>", True), ADDED: ("<a>", False)}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """One token per byte, two special ones and one that is added and shown."""
    return Tokenizer(
        {
            "model": {"type": "BPE", "vocab": {letter: byte for byte, letter in LETTERS.items()}, "merges": []},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
            "decoder": {"type": "ByteLevel"},
            "added_tokens": [
                {"id": token, "content": content, "special": special, "normalized": False}
                for token, (content, special) in CONTENTS.items()
            ],
        }
    )


def collected(
    tokenizer: Tokenizer, tokens: list[int], *stops: str, prompt: Sequence[int] = (1,)
) -> tuple[str, int, str]:
    """The text, how many tokens were taken, and why no more were."""
    config = GenerationConfig(max_new_tokens=len(tokens), stop_strings=stops, eos_token_id=END)
    collector = Collector(np.array(prompt), config, 0, tokenizer, streamed=True)
    for token in tokens:
        logits = np.zeros(len(LETTERS) + len(CONTENTS), np.float32)
        logits[token] = 1
        collector.request.take([logits])
    pieces = []
    while (piece := collector.events.get()) is not None:
        pieces.append(piece)
    completion = collector.completion()
    assert "".join(piece.text for piece in pieces) == completion.text
    assert sum((piece.token_ids for piece in pieces), ()) == completion.token_ids
    return completion.text, len(completion.token_ids), completion.finish_reason


AB = list(b"ab")


@pytest.mark.parametrize(
    ("tokens", "stops", "expected"),
    [
        ([*AB, SPECIAL, *AB], ["<s>"], ("ab", 3, "stop")),
        ([*AB, SPECIAL, *AB], ["b<s>a"], ("a", 4, "stop")),
        ([*AB, SPECIAL, *AB], ["s>"], ("ab", 3, "stop")),
        ([*AB, SPECIAL, SPECIAL, *AB], ["<s><s>ab"], ("ab", 6, "stop")),
        ([*AB, SPECIAL, *AB], ["ba"], ("abab", 5, "length")),
        ([*AB, SPECIAL, *AB], ["<s>x", "b<s>b"], ("abab", 5, "length")),
        ([*AB, ADDED, *AB], ["<a>"], ("ab", 3, "stop")),
        ([*AB, ADDED, *AB], ["x"], ("ab<a>ab", 5, "length")),
        ([*AB, END], ["<end>"], ("ab", 3, "stop")),
        ([*AB, END], ["b<end>"], ("a", 3, "stop")),
        ([*AB, END], ["b<end>x"], ("ab", 3, "stop")),
        ([SPECIAL, END], [], ("", 2, "stop")),
    ],
)
def test_stop_strings_see_special_tokens_and_texts_do_not(
    tokenizer: Tokenizer, tokens: list[int], stops: list[str], expected: tuple[str, int, str]
) -> None:
    assert collected(tokenizer, tokens, *stops) == expected


@pytest.mark.parametrize(
    ("prompt", "tokens", "stops", "expected"),
    [
        (b"xa", b"bc", ["ab"], ("", 1, "stop")),
        (b"xab", b"cd", ["ab"], ("cd", 2, "length")),
        (b"aa", b"ab", ["aa"], ("", 1, "stop")),
        (b"xab", b"cdab", ["abce", "dab"], ("c", 4, "stop")),
        ("\u20aca".encode() * 2, b"bc", ["a\u20acab"], ("", 1, "stop")),
        (bytes(100) + b"a", b"bc", ["ab", "cd"], ("", 1, "stop")),
    ],
)
def test_a_stop_string_may_begin_in_the_prompt_and_ends_after_it(
    tokenizer: Tokenizer, prompt: bytes, tokens: bytes, stops: list[str], expected: tuple[str, int, str]
) -> None:
    assert collected(tokenizer, list(tokens), *stops, prompt=list(prompt)) == expected


def test_a_stop_string_may_begin_with_a_special_token_of_the_prompt(tokenizer: Tokenizer) -> None:
    assert collected(tokenizer, AB, "<s>a", prompt=[1, SPECIAL]) == ("", 1, "stop")


PROMPT = "It was a dark night and"


def test_no_search_is_streamed_and_no_negative_prompt_ignored(model: neort.Model) -> None:
    with pytest.raises(neort.ConfigError, match="num_beams is 3, and no text of a beam search is certain before"):
        model.stream(PROMPT, num_beams=3)
    with pytest.raises(neort.ConfigError, match="negative_prompt has no effect with guidance_scale=None"):
        model.generate(PROMPT, negative_prompt="The")
    with pytest.raises(neort.ConfigError, match=r"num_beams is 9, .* max_batch_size is 8"):
        model.generate(PROMPT, num_beams=9)


def test_a_stream_has_the_log_probabilities_of_its_tokens(model: neort.Model) -> None:
    whole = model.generate(PROMPT, max_new_tokens=9, logprobs=2)
    pieces = list(model.stream(PROMPT, max_new_tokens=9, logprobs=2))
    assert sum((piece.logprobs or () for piece in pieces), ()) == whole.logprobs
    assert all([entry.token_id for entry in piece.logprobs or ()] == list(piece.token_ids) for piece in pieces)
    assert all(piece.logprobs is None for piece in model.stream(PROMPT, max_new_tokens=2))


def test_guided_texts_do_not_change_with_what_runs_beside_them(model: neort.Model) -> None:
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": True, "seed": 3, "guidance_scale": 2.0}
    alone = model.generate(PROMPT, negative_prompt="The captain", **options)
    beside = model.generate(["My dear", PROMPT], negative_prompt="The captain", num_return_sequences=2, **options)
    assert beside[2].token_ids == alone.token_ids != model.generate(PROMPT, **options).token_ids


def test_the_texts_of_beams_are_those_of_their_tokens(model: neort.Model) -> None:
    outs = model.generate([PROMPT, "My dear"], num_beams=3, num_return_sequences=3, max_new_tokens=6)
    assert [out.text for out in outs] == [model.tokenizer.decode(out.token_ids) for out in outs]
    assert [out.stats.new_tokens for out in outs] == [len(out.token_ids) for out in outs]
    for first, second in itertools.pairwise(outs):
        assert outs.index(second) == 3 or (first.score or 0) >= (second.score or 0)
