"""Prompts of other libraries are refused with what to give instead."""

from __future__ import annotations

from collections import UserDict

import pytest

from neort.errors import ArgumentTypeError
from neort.prompts import is_one_prompt


class Tensor:
    def tolist(self) -> list[int]:
        return [1, 2]


@pytest.mark.parametrize(
    ("prompt", "ending"),
    [
        (Tensor(), "not Tensor; give its tolist(), without padding"),
        (UserDict(input_ids=[[1, 2]]), 'not UserDict; give its "input_ids" as lists, without padding'),
        ({"text": "a"}, "not dict"),
        (b"a", "not bytes"),
        (memoryview(b"a"), "not memoryview"),
    ],
)
def test_what_is_no_prompt_is_refused_with_what_to_give_instead(prompt: object, ending: str) -> None:
    with pytest.raises(ArgumentTypeError) as refusal:
        is_one_prompt(prompt)
    assert str(refusal.value).endswith(ending)
