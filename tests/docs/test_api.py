"""docs/api.md lists the public names, and no others; docs/reference.md shows the docstring of each."""

from __future__ import annotations

import re

import neort
import neort_export
from folders import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^\| `neort\.(\w+)` \|", PAGE, re.MULTILINE)


def test_the_page_lists_each_public_name_once() -> None:
    assert sorted(LISTED) == sorted(neort.__all__)


def test_the_reference_shows_each_public_name_once() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    runtime, export = page.split("\n## neort_export\n")
    shown = re.compile(r"^\.\. (?:auto\w+|py:\w+):: (\w+)", re.MULTILINE)
    assert sorted(shown.findall(runtime)) == sorted(neort.__all__)
    assert sorted(shown.findall(export)) == sorted(neort_export.__all__)


def test_the_page_says_which_standard_exception_each_error_is() -> None:
    rows = re.findall(r"^\| `neort\.(\w+(?:Error|Warning))` \| (\w+) \|", PAGE, re.MULTILINE)
    assert len(rows) == 16
    for name, standard in rows:
        error = getattr(neort, name)
        assert standard in {base.__name__ for base in error.__mro__}
