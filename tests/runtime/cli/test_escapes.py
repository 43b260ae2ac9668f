"""Escape sequences in --stop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neort.cli.escapes import unescaped


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"\n", "\n"),
        (r"\n\n", "\n\n"),
        (r"\r\t", "\r\t"),
        (r"\\", "\\"),
        (r"\\n", r"\n"),
        (r"\\\n", "\\\n"),
        (r"\u00e9\u65E5", "é日"),
        (r"\ud83d\udc4d", "👍"),
        ("\n", "\n"),
        (r"\d \x \N \0 C:\data", r"\d \x \N \0 C:\data"),
        (r"\u12 \ud83d \udc4d \uzzzz", r"\u12 \ud83d \udc4d \uzzzz"),
        ("\\", "\\"),
        ("", ""),
    ],
)
def test_sequences_are_the_characters_that_they_stand_for_and_all_else_is_itself(typed: str, meant: str) -> None:
    assert unescaped(typed) == meant


@given(st.text(alphabet="\\nrtu0de9é日\n"))
def test_with_each_backslash_doubled_every_text_can_be_typed(text: str) -> None:
    assert unescaped(text.replace("\\", "\\\\")) == text
