"""Whether neort's tokenizer and transformers' give the same ids, on some thousands of short texts."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from pathlib import Path

from neort.tokenizer import Tokenizer
from neort.wording import shortened

from ...errors import CheckpointError
from .reference import Reference

__all__ = ["check_same_ids", "check_same_text", "same_ids", "texts_for"]

SEED = 20
RANDOM_TEXTS = 1500
MOST_ADDED = 100  # added tokens that are tried in every surrounding
FEWER = 400  # random texts for the files that were written: they are read as the first ones were
SPACED = "It is done , he said . I do n't know ' s end !"  # where transformers may leave out blanks

PASSAGE = """The cat isn't on the mat, and we'll see whether they've said I'm late; he'd SHOUT: IT'S!
In 1984 there were 1,024 rows of 12345678 numbers.  Tabs\tand   runs of spaces\r\n\r\n    code(1) == [1, 2];
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Où est l'été? Ça va.
Съешь же ещё этих мягких французских булок. 日本語の文章です。 สวัสดีชาวโลก שלום עולם مرحبا بالعالم
naïve café — “quotes” … abc_def --- === <tag/> http://x.y/z?q=1&r=2 aaaaaaaa bababa
"""
FRAGMENTS = [
    *(" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\x0b\x0c", "\x1c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028"),
    *("\u3000", "\u200b", "\ufeff", "\x00", "'s", "'t", "'ll", "'S", "'", "''", "a", "Z", "the", " the", "The", "_"),
    *("aaaa", "abab", "--", "...", "?!", "<", ">", "<|", "|>", "[", "]", "0", "42", "1,024", "½", "²", "Ⅷ", "٣٤", "०१"),
    *(
        "é",
        "e\u0301",
        "\u0301",
        "ß",
        "İ",
        "Ωμέγα",
        "Привет",
        "日本語",
        "한국어",
        "สวัสดี",
        "שָׁ",
        "نَّ",
        "👍🏽",
        "👩\u200d🔬",
    ),
    *("🇫🇷", "1\ufe0f\u20e3", "\u200d", "€", "Ġ", "Ċ", "\ue000", "\U0010ffff", "\u0378", "\ufffd", "𐍈", "𒀀", "once"),
]
SURROUNDINGS = ("{0}", "{0}{0}", " {0}", "{0} ", "a{0}b", "a {0} b", "a  {0}  b", "\n{0}\n\u3000{0}", "_{0}é", "{0}'s")


def texts_for(added: Sequence[str]) -> list[str]:
    """Texts that tell tokenizers apart: each byte and blank, scripts, numbers, contractions and the added tokens."""
    chosen = list(added)
    if len(chosen) > MOST_ADDED:
        chosen = [*chosen[: MOST_ADDED // 2], *chosen[-MOST_ADDED // 2 :]]
    texts = ["", *PASSAGE.splitlines(), PASSAGE]
    texts += [f"a{chr(code)}b {chr(code)}{chr(code)}" for code in (*range(0x180), *range(0x2000, 0x2010))]
    texts += [surrounding.format(token) for token in chosen for surrounding in SURROUNDINGS]
    chance = random.Random(SEED)
    for _ in range(RANDOM_TEXTS):
        parts = FRAGMENTS if not chosen or chance.random() < 0.5 else [*FRAGMENTS[::4], *chosen]
        texts.append("".join(chance.choice(parts) for _ in range(chance.randint(1, 12))))
    return texts


def check_same_ids(tokenizer: Tokenizer, reference: Reference, texts: Sequence[str], source: Path) -> None:
    """Raises CheckpointError for the first text whose ids neort makes otherwise than transformers."""
    for text, expected in zip(texts, reference.encode(list(texts)), strict=True):
        actual = tokenizer.encode(text)
        if actual != expected:
            raise CheckpointError(
                f"{source}: neort cannot reproduce this tokenizer: {shortened(text)} has the ids "
                f"{shortened(expected)} in transformers and {shortened(actual)} in neort; please report it with the "
                "tokenizer's files"
            )


def check_same_text(tokenizer: Tokenizer, reference: Reference, source: Path) -> None:
    """Tells by a UserWarning where transformers writes ids as another text."""
    ids = tokenizer.encode(SPACED)
    ours, theirs = tokenizer.decode(ids, skip_special_tokens=False), reference.decode(ids)
    if ours != theirs:
        warnings.warn(
            f"{source}: transformers writes {shortened(ours)} as {shortened(theirs)} "
            "(clean_up_tokenization_spaces in tokenizer_config.json); neort writes the text that the tokens stand for",
            UserWarning,
            stacklevel=3,
        )


def same_ids(one: Reference, other: Reference, texts: Sequence[str]) -> bool:
    """Whether two tokenizers of transformers give some of the texts the same ids."""
    some = list(texts[:-RANDOM_TEXTS]) + list(texts[-FEWER:])
    return one.encode(some) == other.encode(some)
