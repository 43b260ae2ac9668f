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
Change = Callable[[dict[str, Any]], None]


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
    ids = ours.encode(text, add_special_tokens=False)
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


@pytest.mark.parametrize("blanks", [" " * 1_100_000, "\n\u3000" * 100_001, " " * 100_001 + "\x1c" + "\t" * 100_001])
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


def setting(path: str, value: Any) -> Change:
    """A change of the one entry at a path like model.dropout or added_tokens.0.lstrip."""

    def change(document: Any) -> None:
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
        for key in parents:
            document = document[key]
        document[last] = value

    return change


def without_some_bytes(document: dict[str, Any]) -> None:
    """As of a training without initial_alphabet: such bytes are left out, and their neighbours may merge."""
    vocab = document["model"]["vocab"]
    for character in "ĀzÃðĂ":
        vocab.pop(character)
    pairs = [
        (left, right) for left, right in document["model"]["merges"] if {left, right, left + right} <= vocab.keys()
    ]
    document["model"]["merges"] = [list(pair) for pair in pairs]
    document["added_tokens"] = []


def unknown_bytes(document: dict[str, Any]) -> None:
    without_some_bytes(document)
    document["model"]["unk_token"] = "a"


def unknown_bytes_as_one(document: dict[str, Any]) -> None:
    unknown_bytes(document)
    document["model"]["fuse_unk"] = True


def bytes_as_tokens(document: dict[str, Any]) -> None:
    without_some_bytes(document)
    size = len(document["model"]["vocab"])
    document["model"]["vocab"] |= {"<0xC4>": 2 * size, "<0xA0>": 2 * size + 1, "<0xC3>": 2 * size + 2}
    document["model"]["byte_fallback"] = True


def merges_out_of_order(document: dict[str, Any]) -> None:
    document["model"]["merges"].reverse()


def ids_out_of_order(document: dict[str, Any]) -> None:
    vocab = document["model"]["vocab"]
    first, second = ("".join(merge) for merge in document["model"]["merges"][:2])
    vocab[first], vocab[second] = vocab[second], vocab[first]


def ids_that_the_reference_changes(document: dict[str, Any]) -> None:
    for token in document["added_tokens"]:
        token["id"] += 300


def a_gap_in_the_vocabulary(document: dict[str, Any]) -> None:
    """The reference numbers added tokens from the count of tokens on, whatever ids the vocabulary uses."""
    vocab = document["model"]["vocab"]
    vocab[max(vocab, key=vocab.__getitem__)] += 1


def whole_pieces_of_the_vocabulary(document: dict[str, Any]) -> None:
    tokens_that_no_merge_gives(document)
    document["model"]["ignore_merges"] = True


def added_tokens_without_content_or_listed_twice(document: dict[str, Any]) -> None:
    first = document["added_tokens"][0]
    document["added_tokens"] += [first, {**first, "content": "", "id": 7}]


def a_token_before_and_two_after(document: dict[str, Any]) -> None:
    ends = {name: {"id": name, "ids": ids, "tokens": [name] * len(ids)} for name, ids in (("B", [7]), ("E", [9, 10]))}
    pieces = [{"SpecialToken": {"id": "B", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    pieces.append({"SpecialToken": {"id": "E", "type_id": 0}})
    template = {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": ends}
    document["post_processor"] = {"type": "Sequence", "processors": [BYTE_LEVEL, template]}


def a_token_before_and_one_after(document: dict[str, Any]) -> None:
    flags = {"trim_offsets": True, "add_prefix_space": True}
    document["post_processor"] = {"type": "RobertaProcessing", "sep": ["b", 5], "cls": ["a", 4], **flags}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
SHAPES = [
    merges_as_strings,
    parts_as_sequences,
    template_without_special_tokens,
    file_of_an_older_version,
    tokens_that_no_merge_gives,
    an_added_token_that_merges_give_too,
    without_some_bytes,
    unknown_bytes,
    unknown_bytes_as_one,
    bytes_as_tokens,
    merges_out_of_order,
    ids_out_of_order,
    ids_that_the_reference_changes,
    a_gap_in_the_vocabulary,
    whole_pieces_of_the_vocabulary,
    added_tokens_without_content_or_listed_twice,
    a_token_before_and_two_after,
    a_token_before_and_one_after,
]
SETTINGS: dict[str, Change] = {
    "a prefix space": setting("pre_tokenizer.add_prefix_space", True),
    "no regex": setting("pre_tokenizer.use_regex", False),
    "no sequence of normalizers": setting("normalizer", {"type": "Sequence", "normalizers": []}),
    "no dropout": setting("model.dropout", 0.0),
    "byte fallback that nothing needs": setting("model.byte_fallback", True),
    "ignored merges": setting("model.ignore_merges", True),
    "lstrip": setting("added_tokens.0.lstrip", True),
    "rstrip": setting("added_tokens.0.rstrip", True),
    "single words": setting("added_tokens.0.single_word", True),
}


@pytest.mark.parametrize(
    "change", [*SHAPES, *SETTINGS.values()], ids=[*(shape.__name__ for shape in SHAPES), *SETTINGS]
)
def test_other_shapes_of_the_file_keep_parity(document: Any, change: Change, tmp_path: Path) -> None:
    changed = copy.deepcopy(document)
    change(changed)
    pair = pair_of(changed, tmp_path)
    ours, theirs = pair
    for text in [*adversarial_texts(300, seed=22), "Viktor viktor zq <unused 1>", "Hello", ""]:
        assert_parity(pair, text)
        assert ours.encode(text) == theirs.encode(text).ids, ascii(text)


# --- merges: of any order, with parity ---


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
def test_merges_in_which_any_tokens_meet_have_parity(
    document: dict[str, Any], merges: list[tuple[str, str]], texts: list[str]
) -> None:
    """tiktoken alone would give a token that the merges cannot give, such as "aaa" of ("a", "a") and ("a", "aa")."""
    changed = document_of_merges(document, merges)
    ours, theirs = Tokenizer(changed), reference.Tokenizer.from_str(json.dumps(changed))
    tokens = ["".join(merge) for merge in merges]
    for text in [*texts, *(left + right for left in tokens for right in tokens)]:
        assert ours.encode(text) == reference_ids(theirs, text)


# --- refusals: each names the value and the remedy ---


def without(path: str) -> Change:
    def change(document: Any) -> None:
        *parents, last = path.split(".")
        for key in parents:
            document = document[key]
        del document[last]

    return change


def an_unknown_token_that_is_unknown(document: dict[str, Any]) -> None:
    without_some_bytes(document)
    document["model"]["unk_token"] = "<unk>"


def an_added_token_twice(document: dict[str, Any]) -> None:
    document["added_tokens"].append({**document["added_tokens"][0], "lstrip": True})


def two_templates(document: dict[str, Any]) -> None:
    a_token_before_and_two_after(document)
    document["post_processor"]["processors"] *= 2


TEMPLATE = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}]}
REFUSED: dict[str, tuple[Change, str]] = {
    "another model": (setting("model.type", "Unigram"), "model of type 'Unigram'.*GPT-2's pattern alone"),
    "no model": (without("model"), "has no model"),
    "no merges": (without("model.merges"), "lacks vocab or merges"),
    "ids that are no numbers": (setting("model.vocab.a", "5"), "ids that are no whole numbers"),
    "one id for two tokens": (setting("model.vocab.a", 2), "one id to several tokens"),
    "dropout": (setting("model.dropout", 0.1), "model.dropout 0.1, with which a text has other ids each time"),
    "a prefix": (setting("model.continuing_subword_prefix", "##"), "continuing_subword_prefix '##'"),
    "a suffix": (setting("model.end_of_word_suffix", "</w>"), "end_of_word_suffix '</w>'"),
    "a flag that is none": (setting("model.ignore_merges", "yes"), "ignore_merges 'yes', which is neither true nor"),
    "an unknown token": (an_unknown_token_that_is_unknown, "unk_token '<unk>', which its vocabulary lacks.*0x00"),
    "an unknown token of no type": (setting("model.unk_token", 5), "unk_token 5, which is no token"),
    "a normalizer": (setting("normalizer", {"type": "NFC"}), "normalizer {'type': 'NFC'}.*version of Unicode"),
    "no pre-tokenizer": (setting("pre_tokenizer", None), "pre_tokenizer None.*byte-level"),
    "another pre-tokenizer": (setting("pre_tokenizer", {"type": "Whitespace"}), "'Whitespace'.*byte-level"),
    "a prefix space of no type": (setting("pre_tokenizer.add_prefix_space", 1), "neither true nor false"),
    "two pre-tokenizers": (
        setting("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, BYTE_LEVEL]}),
        "pre_tokenizer {.*Sequence.*byte-level",
    ),
    "no decoder": (setting("decoder", None), 'decoder None.*{"type": "ByteLevel"}, which leaves the ids'),
    "a template without the text": (setting("post_processor", TEMPLATE), "does not say what tokens it puts around"),
    "two templates": (two_templates, "whose steps each put tokens around a text"),
    "another post-processor": (setting("post_processor", {"type": "Metaspace"}), "'Metaspace'"),
    "a flag of no type": (setting("added_tokens.0.lstrip", "yes"), "a lstrip that is neither true nor false"),
    "an added token listed twice": (an_added_token_twice, "twice, with different flags"),
    "a merge of unknown tokens": (setting("model.merges.0", ["a", "日"]), "merges.*have token '日', which its vocab"),
    "a merge of three": (setting("model.merges.0", "a b c"), "merge 'a b c' is not a pair"),
    "a merge of numbers": (setting("model.merges.0", [1, 2]), r"merge \[1, 2\] is not a pair"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_reproduced_is_refused(document: Any, change: Change, message: str) -> None:
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
