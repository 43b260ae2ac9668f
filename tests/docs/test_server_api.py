"""docs/server-api.md says what the server's tables say."""

from __future__ import annotations

import runpy

from folders import ROOT


def test_the_page_of_the_server_s_interface_follows_from_its_tables() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "server_api.py"))["page"]()
    stored = (ROOT / "docs" / "server-api.md").read_text(encoding="utf-8")
    assert stored == page, "write it anew: python docs/server_api.py"
