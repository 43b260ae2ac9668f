"""Bodies as JSON values: what no program can bear is refused by a sentence."""

from __future__ import annotations

import json

import pytest

from neort.server.protocol import RequestError
from neort.server.protocol.decoding import DEEPEST, decoded


@pytest.mark.parametrize("value", [None, 1, 1.5, "a", [], {"a": [1, {"b": None}]}, 2**60, -0.0, "\ud800"])
def test_json_is_read_as_it_is(value: object) -> None:
    assert decoded(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no JSON at character 0"),
        (b'{"a": 1', "no JSON at character 7"),
        (b'{"a": 1} x', "no JSON at character 9"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e400}', "beyond 1.8e308"),
        (b"9" * 5000, "5000 characters"),
        (b"0." + b"9" * 5000, "5002 characters"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' twice"),
        (b'{"a": "\xff"}', "no UTF-8 at byte 7"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "nested more than"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested more than"),
        (b"[" * 100_000, "nested more than|no JSON"),
    ],
)
def test_what_is_no_json_or_too_much_of_it_is_refused(body: bytes, told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        decoded(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")
    assert len(caught.value.message) < 300


def test_what_is_as_deep_as_may_be_is_read() -> None:
    assert decoded(b"[" * DEEPEST + b"]" * DEEPEST)
