"""Tokenizer: the ids and the text of the `tokenizers` library, or a TokenizerError that says why not."""

# ruff: noqa: RUF001  (the texts are full of look-alikes on purpose)

from __future__ import annotations

import copy
import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from folders import SHARED
from neort.errors import TokenizerError
from neort.tokenizer import Tokenizer

# Older versions know an older Unicode: 0.20 cuts texts elsewhere at some 9,000 of the newest letters and numbers.
reference = pytest.importorskip("tokenizers", "0.22", reason="needs the reference, tokenizers >= 0.22")

SAVED = {"gpt2": "tokenizers/gpt2/tokenizer.json", "neo-mini": "checkpoints/neo-mini/tokenizer.json"}

CORPUS = """The cat isn't on the mat, and we'll see whether they've said I'm late; he'd SHOUT: IT'S!
In 1984 there were 1,024 rows of 12345678 numbers.  Tabs\tand   runs of spaces\r\n\r\n    code(1) == [1, 2];
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Où est l'été? Ça va.
Съешь же ещё этих мягких французских булок. 日本語の文章です。 สวัสดีชาวโลก שלום עולם مرحبا بالعالم
👩‍🔬 👍🏽 🇫🇷 naïve café — “quotes” … ½ ² ٣٤٥ ०१२ abc_def --- === <tag/> http://x.y/z?q=1&r=2 aaaaaaaa bababa
"""

# What has told byte-level tokenizers apart: whitespace of all kinds, characters made of several code points,
# numbers of other scripts, contractions, scripts without spaces, and code points that nothing is assigned to.
FRAGMENTS = [
    *(
        " ",
        "  ",
        "   \t",
        "\n",
        "\n\n\n",
        "\r\n",
        "\r",
        "\x0b\x0c",
        "\x1c\x1d\x1e\x1f",
        "\x85",
        "\xa0",
        "\u1680",
    ),
    *(
        "\u2003",
        "\u2028\u2029",
        "\u202f",
        "\u205f",
        "\u3000",
        "\u200b",
        "\ufeff",
        "\u180e",
        "\x00",
        "\x7f",
        "\xad",
    ),
    *(
        "'s",
        "'t",
        "'re",
        "'ve",
        "'m",
        "'ll",
        "'d",
        "'S",
        "'LL",
        "'Re",
        "’s",
        "'",
        "''",
        "'sx",
        " 's",
        "don't",
        "I'M",
    ),
    *(
        "a",
        "Z",
        "the",
        " the",
        "The quick",
        "aaaa",
        "aaaaa",
        "abab",
        "_",
        "--",
        "==",
        "...",
        "?!",
        "<|",
        "|>",
        "\\n",
    ),
    *(
        "0",
        "42",
        "1,024",
        "٣٤",
        "०१",
        "๕",
        "Ⅷ",
        "½",
        "²",
        "①",
        "𝟘𝟙",
        "五",
        "〇",
        "é",
        "e\u0301",
        "\u0301",
        "o\u0302\u0323",
    ),
    *(
        "ß",
        "İ",
        "ŉ",
        "ﬁ",
        "ǅ",
        "ʰ",
        "ª",
        "Ωμέγα",
        "Привет",
        "日本語",
        "한국어",
        "สวัสดี",
        "ก\u0e31",
        "שלום",
        "שָׁ",
        "مرحبا",
        "نَّ",
    ),
    *(
        "👍",
        "👍🏽",
        "👩\u200d🔬",
        "👨\u200d👩\u200d👧",
        "🇫🇷",
        "1\ufe0f\u20e3",
        "❤\ufe0f",
        "\u200d",
        "\ufe0f",
        "€",
        "™",
        "Ġ",
        "Ċ",
        "Ā",
    ),
    *(
        "\ue000",
        "\U000f0000",
        "\U0010ffff",
        "\uffff",
        "\ufdd0",
        "\u0378",
        "\U000e0001",
        "\ufffd",
        "𐍈",
        "𒀀",
        "\U0001fae9",
    ),
    *("<|endoftext|>", "<|endoftext|", "<|endoftext|><|endoftext|>", " <|endoftext|> ", "<|ENDOFTEXT|>"),
    *("<note>", "<note>s", "<no", "<|pad|>", "two words", "wo", "words"),
]


def adversarial_texts(count: int, seed: int) -> list[str]:
    """Texts of 1 to 20 parts, each a fragment, a run of one, or any code point but a surrogate."""
    rng = random.Random(seed)

    def part() -> str:
        kind = rng.random()
        if kind < 0.75:
            return rng.choice(FRAGMENTS)
        if kind < 0.85:
            return rng.choice(FRAGMENTS) * rng.randint(2, 9)
        code_point = rng.choice([rng.randrange(0x250), rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])
        return chr(code_point)

    return ["".join(part() for _ in range(rng.randint(1, 20))) for _ in range(count)]


def trained_document() -> dict[str, Any]:
    """A small tokenizer.json as a user would make one, with special and other added tokens that overlap."""
    tokenizer = reference.Tokenizer(reference.models.BPE())
    tokenizer.pre_tokenizer = reference.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = reference.decoders.ByteLevel()
    trainer = reference.trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=reference.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    tokenizer.add_special_tokens([reference.AddedToken("<|pad|>", normalized=True)])
    others = ["<note>", "<note>s", "two words", "wo", "日本"]
    tokenizer.add_tokens([reference.AddedToken(text, normalized=text != "<note>") for text in others])
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


Pair = tuple[Tokenizer, Any]


def pair_of(document: dict[str, Any], folder: Path) -> Pair:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return Tokenizer.from_file(path), reference.Tokenizer.from_file(str(path))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return trained_document()


@pytest.fixture(scope="module", params=["trained", *SAVED])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    if request.param == "trained":
        return pair_of(request.getfixturevalue("document"), tmp_path_factory.mktemp("trained"))
    path = SHARED / SAVED[request.param]
    if not path.is_file():
        pytest.skip(f"no {request.param} tokenizer at {path}; set NEORT_SHARED to the folder that has it")
    return Tokenizer.from_file(path), reference.Tokenizer.from_file(str(path))


def reference_ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def assert_parity(pair: Pair, text: str) -> None:
    ours, theirs = pair
    ids = ours.encode(text)
    assert ids == reference_ids(theirs, text), ascii(text)
    for skip in (True, False):
        assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip), ascii(text)


# --- parity with the reference ---


def test_adversarial_texts_have_the_ids_and_the_text_of_the_reference(pair: Pair) -> None:
    for text in adversarial_texts(3000, seed=20):
        assert_parity(pair, text)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(max_size=60), st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)))
def test_any_text_has_the_ids_and_the_text_of_the_reference(pair: Pair, text: str) -> None:
    assert_parity(pair, text)


def test_every_assigned_code_point_splits_as_in_the_reference(document: dict[str, Any]) -> None:
    """The merges join the last byte of a character with a letter, number, mark or space after it, so the ids show
    whether both are in one piece: that is, which class the character is held to be of."""
    to_file = reference.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    last_bytes = [to_file(chr(code))[0][0][-1] for code in range(0x80, 0xC0)]
    merges = [(last, mark) for last in last_bytes for mark in ("a", "1", ".", "Ġ")]
    probe = document_of_merges(document, merges)
    ours, theirs = Tokenizer(probe), reference.Tokenizer.from_str(json.dumps(probe))
    assigned = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cs", "Co", "Cn")]
    for start in range(0, len(assigned), 50):
        text = "".join(f"{c}a{c}1{c}.{c}  a" for c in assigned[start : start + 50])
        assert ours.encode(text) == reference_ids(theirs, text), ascii(text)


def test_any_token_ids_decode_as_in_the_reference(pair: Pair) -> None:
    """Random ids give broken UTF-8 of every kind, and ids that no token has."""
    ours, theirs = pair
    rng = random.Random(7)
    bytes_first = [ours.encode(chr(code))[0] for code in (0, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF)]
    for _ in range(2000):
        ids = [rng.choice([rng.randrange(ours.vocab_size + 40), rng.choice(bytes_first)]) for _ in range(12)]
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)


def test_sizes_and_special_tokens_are_those_of_the_reference(pair: Pair) -> None:
    ours, theirs = pair
    added = theirs.get_added_tokens_decoder()
    assert ours.vocab_size == theirs.get_vocab_size(with_added_tokens=True)
    assert ours.special_tokens == {token.content: token_id for token_id, token in added.items() if token.special}


def test_texts_survive_the_round_trip(pair: Pair) -> None:
    ours, _ = pair
    for text in adversarial_texts(500, seed=21):
        assert ours.decode(ours.encode(text), skip_special_tokens=False) == text


def test_token_bytes_join_to_the_text_without_special_tokens(pair: Pair) -> None:
    ours, _ = pair
    text = "“naïve” <|endoftext|>👩\u200d🔬 日本語"
    pieces = [ours.token_bytes(token_id) for token_id in ours.encode(text)]
    assert b"".join(pieces) == text.replace("<|endoftext|>", "").encode()


def test_ids_that_no_token_has_stand_for_no_bytes(pair: Pair) -> None:
    ours, _ = pair
    assert ours.token_bytes(ours.vocab_size + 7) == b""
    assert ours.decode([ours.vocab_size + 7]) == ""


@pytest.mark.parametrize("blanks", [" " * 1_100_000, "\n\u3000" * 550_000, " " * 100_001 + "\x1c" + "\t" * 100_001])
def test_whitespace_longer_than_the_regex_engine_can_go_back_is_encoded(document: Any, blanks: str) -> None:
    """tiktoken alone panics on a million spaces before a word, which `except Exception` does not catch."""
    theirs = reference.Tokenizer.from_str(json.dumps(document))
    for text in (f"a{blanks}b", blanks):
        assert Tokenizer(document).encode(text) == reference_ids(theirs, text)


# --- what is said in docstrings beyond the reference ---


def test_lone_surrogates_count_as_replacement_characters(pair: Pair) -> None:
    ours, _ = pair
    for text in ("\ud800", "a\udfffb", "\udc00\ud800", "\ud800\ud800 x"):
        expected = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
        assert ours.encode(text) == ours.encode(expected)


def test_a_surrogate_pair_counts_as_its_character(pair: Pair) -> None:
    ours, _ = pair
    assert ours.encode("a\ud83d\ude00") == ours.encode("a😀")


@pytest.mark.parametrize("text", [b"bytes", None, 5, ["a"]])
def test_text_that_is_no_str_is_refused_by_its_type(document: Any, text: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(text).__name__}"):
        Tokenizer(document).encode(text)


def test_the_document_is_left_as_it_was(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    tokenizer = Tokenizer(document)
    tokenizer.special_tokens.clear()
    assert document == before
    assert tokenizer.special_tokens


# --- files of other shapes that give the same tokens ---


def merges_as_strings(document: dict[str, Any]) -> None:
    document["model"]["merges"] = [
        "#version: 0.2",
        *(" ".join(merge) for merge in document["model"]["merges"]),
    ]


def parts_as_sequences(document: dict[str, Any]) -> None:
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [document["pre_tokenizer"]]}
    document["decoder"] = {"type": "Sequence", "decoders": [document["decoder"]]}
    document["post_processor"] = {"type": "Sequence", "processors": [BYTE_LEVEL]}


def template_without_special_tokens(document: dict[str, Any]) -> None:
    sequences = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    template = {
        "type": "TemplateProcessing",
        "single": sequences[:1],
        "pair": sequences,
        "special_tokens": {},
    }
    document["post_processor"] = template


def file_of_an_older_version(document: dict[str, Any]) -> None:
    for name in ("type", "byte_fallback", "ignore_merges"):
        del document["model"][name]
    document["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": "", "unk_token": ""}
    del document["pre_tokenizer"]["use_regex"]


def tokens_that_no_merge_gives(document: dict[str, Any]) -> None:
    """tiktoken would take each of them for the whole of a piece."""
    size = len(document["model"]["vocab"])
    document["model"]["vocab"] |= {"Ġviktor": size, "zq": size + 1, "<unused 1>": size + 2}
    for token in document["added_tokens"]:
        token["id"] += 3 * (token["id"] >= size)


def an_added_token_that_merges_give_too(document: dict[str, Any]) -> None:
    left, right = document["model"]["merges"][0]
    token_id = document["model"]["vocab"][left + right]
    document["added_tokens"].append({**document["added_tokens"][0], "id": token_id, "content": left + right})


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
SHAPES = [
    merges_as_strings,
    parts_as_sequences,
    template_without_special_tokens,
    file_of_an_older_version,
    tokens_that_no_merge_gives,
    an_added_token_that_merges_give_too,
]


@pytest.mark.parametrize("change", SHAPES, ids=lambda change: change.__name__)
def test_other_shapes_of_the_file_keep_parity(
    document: Any, change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    changed = copy.deepcopy(document)
    change(changed)
    pair = pair_of(changed, tmp_path)
    for text in [*adversarial_texts(300, seed=22), "Viktor viktor zq <unused 1>"]:
        assert_parity(pair, text)


# --- merges: what is accepted has parity, what has not is refused ---


def document_of_merges(document: dict[str, Any], merges: list[tuple[str, str]]) -> dict[str, Any]:
    alphabet = sorted(token for token in document["model"]["vocab"] if len(token) == 1)
    vocab = {token: token_id for token_id, token in enumerate([*alphabet, *map("".join, merges)])}
    model = {**document["model"], "vocab": vocab, "merges": [list(merge) for merge in merges]}
    return {**document, "model": model, "added_tokens": []}


@st.composite
def merge_lists(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Merges of two letters in which any earlier tokens may meet, as no training would have it."""
    tokens = ["a", "b"]
    merges: list[tuple[str, str]] = []
    for _ in range(draw(st.integers(1, 7))):
        left, right = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        if left + right not in tokens:
            tokens.append(left + right)
            merges.append((left, right))
    return merges


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(merges=merge_lists(), texts=st.lists(st.text("ab", max_size=24), min_size=10, max_size=10))
def test_merges_have_parity_or_are_refused_for_a_token_the_reference_cannot_give(
    document: dict[str, Any], merges: list[tuple[str, str]], texts: list[str]
) -> None:
    changed = document_of_merges(document, merges)
    theirs = reference.Tokenizer.from_str(json.dumps(changed))
    tokens = ["".join(merge) for merge in merges]
    if all(len(reference_ids(theirs, token)) == 1 for token in tokens):
        ours = Tokenizer(changed)
        for text in [*texts, *(left + right for left in tokens for right in tokens)]:
            assert ours.encode(text) == reference_ids(theirs, text)
    else:
        with pytest.raises(TokenizerError, match="for its own bytes"):
            Tokenizer(changed)


def test_a_token_whose_halves_never_meet_is_refused_by_name(document: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError, match="do not give 'abc' for its own bytes: they join 'b' and 'c' first"):
        Tokenizer(document_of_merges(document, [("b", "c"), ("a", "b"), ("ab", "c")]))


def test_a_rule_that_overlaps_itself_applies_on_the_left_first(document: dict[str, Any]) -> None:
    Tokenizer(document_of_merges(document, [("a", "a"), ("aa", "a")]))
    with pytest.raises(TokenizerError, match="they join 'a' and 'a' first"):
        Tokenizer(document_of_merges(document, [("a", "a"), ("a", "aa")]))


# --- refusals: each names the value and the remedy ---


def swap_ids_of_two_merges(document: dict[str, Any]) -> None:
    first, second = ("".join(merge) for merge in document["model"]["merges"][:2])
    vocab = document["model"]["vocab"]
    vocab[first], vocab[second] = vocab[second], vocab[first]


def leave_a_gap_in_the_vocabulary(document: dict[str, Any]) -> None:
    """The reference numbers added tokens from the count of tokens on, whatever ids the vocabulary uses."""
    vocab = document["model"]["vocab"]
    last = max(vocab, key=vocab.__getitem__)
    vocab[last] += 1
    document["added_tokens"][1]["id"] = vocab[last]


def drop_byte_zero(document: dict[str, Any]) -> None:
    del document["model"]["vocab"]["Ā"]
    document["added_tokens"] = []


def setting(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the one entry at a path like model.dropout or added_tokens.0.lstrip."""

    def change(document: Any) -> None:
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
        for key in parents:
            document = document[key]
        document[last] = value

    return change


def without(path: str) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        *parents, last = path.split(".")
        for key in parents:
            document = document[key]
        del document[last]

    return change


TEMPLATE = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}]}
REFUSED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "another model": (setting("model.type", "Unigram"), "model.type 'Unigram'.*with BPE"),
    "no model": (without("model"), "has no model"),
    "no merges": (without("model.merges"), "lacks vocab or merges"),
    "ids that are no numbers": (setting("model.vocab.a", "5"), "ids that are no whole numbers"),
    "one id for two tokens": (setting("model.vocab.a", 2), "one id to several tokens"),
    "dropout": (setting("model.dropout", 0.1), "model.dropout 0.1.*with none"),
    "byte fallback": (setting("model.byte_fallback", True), "model.byte_fallback True"),
    "ignored merges": (setting("model.ignore_merges", True), "model.ignore_merges True"),
    "a prefix": (setting("model.continuing_subword_prefix", "##"), "continuing_subword_prefix '##'"),
    "a suffix": (setting("model.end_of_word_suffix", "</w>"), "end_of_word_suffix '</w>'"),
    "a normalizer": (setting("normalizer", {"type": "NFC"}), "normalizer {'type': 'NFC'}.*with none"),
    "truncation": (setting("truncation", {"max_length": 8}), "truncation {'max_length': 8}"),
    "padding": (setting("padding", {"pad_id": 0}), "padding {'pad_id': 0}"),
    "no pre-tokenizer": (setting("pre_tokenizer", None), "pre_tokenizer None.*ByteLevel"),
    "another pre-tokenizer": (setting("pre_tokenizer", {"type": "Whitespace"}), "'Whitespace'.*ByteLevel"),
    "a prefix space": (setting("pre_tokenizer.add_prefix_space", True), "add_prefix_space=False"),
    "no regex": (setting("pre_tokenizer.use_regex", False), "use_regex=True"),
    "two pre-tokenizers": (
        setting("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, BYTE_LEVEL]}),
        "pre_tokenizer {.*Sequence.*with ByteLevel",
    ),
    "no decoder": (setting("decoder", None), "decoder None.*with ByteLevel"),
    "tokens added after": (setting("post_processor", TEMPLATE), "post_processor.*one that adds no tokens"),
    "another post-processor": (setting("post_processor", {"type": "BertProcessing"}), "'BertProcessing'"),
    "lstrip": (setting("added_tokens.0.lstrip", True), r"'<\|endoftext\|>' sets lstrip.*unset it"),
    "rstrip": (setting("added_tokens.0.rstrip", True), "sets rstrip"),
    "single words": (setting("added_tokens.0.single_word", True), "sets single_word"),
    "an id that the reference changes": (
        setting("added_tokens.1.id", 900),
        "900 where 600 is due.*without gaps",
    ),
    "an added token listed twice": (setting("added_tokens.1.content", "<|endoftext|>"), "listed twice"),
    "an added token with the id of another": (leave_a_gap_in_the_vocabulary, "which another token.*without gaps"),
    "a missing byte": (drop_byte_zero, "lacks 1 of the 256 single bytes, 0x00.*initial_alphabet"),
    "merges out of the order of ids": (swap_ids_of_two_merges, "ids must ascend in the order of the merges"),
    "a merge of unknown tokens": (setting("model.merges.0", ["a", "日"]), "no earlier merge gives.*restore"),
    "a merge of three": (setting("model.merges.0", "a b c"), "merge 'a b c' is not a pair"),
    "a merge of numbers": (setting("model.merges.0", [1, 2]), r"merge \[1, 2\] is not a pair"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_tiktoken_cannot_reproduce_is_refused(
    document: Any, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    changed = copy.deepcopy(document)
    change(changed)
    with pytest.raises(TokenizerError, match=message):
        Tokenizer(changed)


@pytest.mark.parametrize("added", ["<pad>", {"id": 600}, {"content": "<pad>"}, {"id": 600, "content": 5}])
def test_an_added_token_without_id_or_content_is_refused(document: dict[str, Any], added: Any) -> None:
    with pytest.raises(TokenizerError, match="lacks id or content"):
        Tokenizer({**document, "added_tokens": [added]})


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[" * 3])
def test_a_file_that_is_no_json_is_refused_by_its_path(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        Tokenizer.from_file(path)


@pytest.mark.parametrize("content", [b"[]", b"null", b'"text"', b"{}", b'{"model": []}'])
def test_json_of_another_shape_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match="has no model"):
        Tokenizer.from_file(path)


def test_a_missing_file_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"cannot read .*nowhere\.json"):
        Tokenizer.from_file(tmp_path / "nowhere.json")
