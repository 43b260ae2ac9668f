"""Values in messages are short, and can be shown, whatever they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neort.wording import LONGEST_VALUE, shortened


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [5, -1.5, "int8", None, True, ["global", "local"] * 3, {"bits": 8}, b"x", (1, 2)])
def test_a_short_value_is_written_as_python_writes_it(value: object) -> None:
    assert shortened(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    ["x" * 10_000, 10**400, 10**5_000, nested(100_000), list(range(10_000)), {"k" * 999: "v" * 999}, Broken()],
    ids=["string", "integer", "long integer", "nested", "list", "object", "broken"],
)
def test_a_long_or_strange_value_is_cut(value: object) -> None:
    assert 0 < len(shortened(value)) <= LONGEST_VALUE


@given(st.recursive(st.none() | st.integers() | st.text(st.characters()), st.lists))
def test_any_value_is_short_and_printable(value: object) -> None:
    assert len(shortened(value)) <= LONGEST_VALUE
    assert shortened(value).isprintable()


def test_a_lone_surrogate_is_written_as_an_escape() -> None:
    assert shortened("a\ud800") == r"'a\ud800'"
