"""docs/options.md says what the fields of GenerationConfig say."""

from __future__ import annotations

import runpy

from folders import ROOT


def test_the_page_of_options_follows_from_the_fields() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "options.py"))["page"]()
    stored = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert stored == page, "write it anew: python docs/options.py"
