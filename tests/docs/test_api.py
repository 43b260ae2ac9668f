"""docs/api.md lists the public names, and no others."""

from __future__ import annotations

import re

import neort
from folders import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^\| `neort\.(\w+)` \|", PAGE, re.MULTILINE)


def test_the_page_lists_each_public_name_once() -> None:
    assert sorted(LISTED) == sorted(neort.__all__)


def test_the_page_says_which_standard_exception_each_error_is() -> None:
    rows = re.findall(r"^\| `neort\.(\w+(?:Error|Warning))` \| (\w+) \|", PAGE, re.MULTILINE)
    assert len(rows) == 15
    for name, standard in rows:
        error = getattr(neort, name)
        assert standard in {base.__name__ for base in error.__mro__}
