"""Tokenizer: the ids of the reference for any vocabulary, merges, added tokens and settings, also together."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from neort.errors import TokenizerError
from neort.tokenizer import Tokenizer, added_tokens

reference = pytest.importorskip("tokenizers", "0.22", reason="needs the reference, tokenizers >= 0.22")

ALPHABET = sorted(reference.pre_tokenizers.ByteLevel.alphabet())
PARTS = [
    *(" ", "  ", "\n", "\t", "\u3000", "\xa0", "\x85", "\x1c", "a", "b", "ab", "aab", " a", "b ", "ba", "1", "12"),
    *("'s", "!", "_", "-", "é", "\u0301", "日", "\u200d", "😀", "²", "Ⅷ", "\u203f", "<x>", "<x", "x>", "<s>", "</s>"),
]
DOCUMENTS, TEXTS = 120, 25


def model_of(chance: random.Random) -> dict[str, Any]:
    """Some or all bytes, and merges in any order, of any tokens, some of them of an unknown token or of one result."""
    alphabet = chance.choice([ALPHABET, [c for c in ALPHABET if chance.random() < 0.8], ["a", "b", "Ġ"]])
    vocab = [*(["<unk>"] if chance.random() < 0.5 else []), *alphabet]
    tokens = [token for token in vocab if token in ("a", "b", "Ġ", "1", "<unk>")] or alphabet[:1]
    merges: list[tuple[str, str]] = []
    for _ in range(chance.randint(0, 12)):
        pair = chance.choice(tokens), chance.choice(tokens)
        if pair in merges or ("".join(pair) in tokens and chance.random() < 0.8):
            continue
        merges.append(pair)
        if "".join(pair) not in tokens:
            tokens.append("".join(pair))
            vocab.append("".join(pair))
    if chance.random() < 0.4:
        chance.shuffle(merges)
    if chance.random() < 0.3:
        vocab += [token for token in ("ba1", "<0xC4>", "<0xA0>", "<0xC3>", "<0xA9>", "Ġab!") if token not in vocab]
    if chance.random() < 0.3:
        chance.shuffle(vocab)
    return {
        "type": "BPE",
        "unk_token": "<unk>" if "<unk>" in vocab and chance.random() < 0.7 else None,
        "fuse_unk": chance.random() < 0.5,
        "byte_fallback": chance.random() < 0.3,
        "ignore_merges": chance.random() < 0.2,
        "vocab": {token: token_id for token_id, token in enumerate(vocab)},
        "merges": [list(pair) for pair in merges],
    }


def added_of(chance: random.Random) -> list[dict[str, Any]]:
    """Tokens that overlap and hold blanks, with any flags, and ids that the reference changes."""
    contents = {"".join(chance.choices(PARTS, k=chance.randint(1, 3))) for _ in range(chance.choice([0, 1, 3, 6, 90]))}
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return [
        {"content": content, "id": chance.randrange(400), **{flag: chance.random() < 0.3 for flag in flags}}
        for content in sorted(contents)
    ]


def document_of(chance: random.Random) -> dict[str, Any]:
    settings = {"add_prefix_space": chance.random() < 0.5, "trim_offsets": True, "use_regex": chance.random() < 0.7}
    text, before = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "B", "type_id": 0}}
    template = {
        "type": "TemplateProcessing",
        "single": chance.choice([[text], [before, text], [text, before], [before, text, before]]),
        "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"B": {"id": "B", "ids": [7, 8], "tokens": ["B", "C"]}},
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": added_of(chance),
        "pre_tokenizer": {"type": "ByteLevel", **settings},
        "post_processor": chance.choice([None, byte_level, template]),
        "decoder": byte_level,
        "model": model_of(chance),
    }


@pytest.mark.parametrize("few", [64, 2], ids=["few added tokens", "many added tokens"])
def test_any_document_has_the_ids_and_the_text_of_the_reference(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(added_tokens, "FEW", few)
    for seed in range(DOCUMENTS // 2):
        chance = random.Random(1000 * few + seed)
        document = document_of(chance)
        ours, theirs = Tokenizer(document), reference.Tokenizer.from_str(json.dumps(document))
        parts = PARTS + [token["content"] for token in document["added_tokens"][:12]]
        for _ in range(TEXTS):
            text = "".join(chance.choices(parts, k=chance.randint(0, 12)))
            for special in (True, False):
                expected = ids_of(theirs, text, special)
                actual = ours.encode(text, add_special_tokens=special)
                assert expected in (None, actual), (seed, ascii(text))
            ids = [chance.randrange(420) for _ in range(6)]
            for skip in (True, False):
                expected_text = theirs.decode(ids, skip_special_tokens=skip)
                assert ours.decode(ids, skip_special_tokens=skip) == expected_text, (seed, ids)


def ids_of(tokenizer: Any, text: str, special: bool) -> list[int] | None:
    """The reference's ids; None where it panics, as it may where a token takes the blanks that the next begins with."""
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=special).ids
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return None
    return ids


def added(content: str, **flags: bool) -> dict[str, Any]:
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"content": content, "id": 0, **dict.fromkeys(names, False), **flags}


def document_with(*tokens: dict[str, Any]) -> dict[str, Any]:
    vocab = {character: token_id for token_id, character in enumerate(ALPHABET)}
    model = {"type": "BPE", "vocab": vocab, "merges": []}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "added_tokens": list(tokens),
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": model,
    }


def test_the_characters_of_a_word_and_blanks_are_those_of_the_reference() -> None:
    """For many code points before, or after, a token that stands alone, and one that takes the blanks around it."""
    document = document_with(added("ab", single_word=True), added("<>", lstrip=True, rstrip=True))
    ours, theirs = Tokenizer(document), reference.Tokenizer.from_str(json.dumps(document))
    code_points = [*range(0x800), *range(0x800, 0xD800, 61), *range(0xE000, 0x110000, 509)]
    for start in range(0, len(code_points), 16):
        text = ".".join(f"{chr(c)}ab.ab{chr(c)}.{chr(c)}<>{chr(c)}" for c in code_points[start : start + 16])
        assert ours.encode(text) == theirs.encode(text).ids, hex(start)


@pytest.fixture(scope="module", params=[0, 50_000], ids=["one added token", "many added tokens"])
def at_scale(request: pytest.FixtureRequest) -> Tokenizer:
    many = [added(f"<extra_id_{i}>", lstrip=i % 2 == 0) for i in range(request.param)]
    return Tokenizer(document_with(added("<>", lstrip=True, rstrip=True), *many))


@pytest.mark.parametrize(
    "text",
    [" " * 300_000, "<>" * 100_000, "<> " * 100_000, "a <> " * 30_000, "<" * 300_000],
    ids=["blanks", "tokens", "tokens and blanks", "words", "beginnings of tokens"],
)
def test_long_texts_take_time_in_proportion_to_their_length(text: str, at_scale: Tokenizer) -> None:
    """With time for each pair of characters, or for each token at each character, none of them would end."""
    assert at_scale.encode(text).count(256) == text.count("<>")


def test_a_long_word_is_merged_by_the_list_of_merges() -> None:
    document = document_with()
    vocab = document["model"]["vocab"]
    for token in ("aa", "aaaa", "ba"):
        vocab[token] = len(vocab)
    del vocab["Ā"]
    document["model"]["merges"] = [["b", "a"], ["a", "a"], ["aa", "aa"]]
    ids = Tokenizer(document).encode("a" * 100_000 + "ba")
    assert ids == [vocab["aaaa"]] * 25_000 + [vocab["ba"]]


def test_tokens_listed_twice_with_other_flags_are_refused() -> None:
    with pytest.raises(TokenizerError, match=r"'<>' twice, with different flags.*leave one of the two"):
        Tokenizer(document_with(added("<>"), added("<>", lstrip=True)))


def test_what_begins_a_text_is_not_put_before_its_parts() -> None:
    document = document_with()
    pieces: list[Any] = [{"SpecialToken": {"id": "!", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"!": {"id": "!", "ids": [5], "tokens": ["!"]}}
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": pieces,
        "pair": pieces,
        "special_tokens": special,
    }
    tokenizer = Tokenizer(document)
    whole = tokenizer.encode("ab")
    assert whole[0] == 5
    assert tokenizer.prefix_ids == [5]
    assert whole[1:] == [token for part in "ab" for token in tokenizer.encode(part, add_special_tokens=False)]
