"""A headless Chromium, driven by playwright; tests that want one are skipped where either is missing."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["launched", "refused_directive"]

CHROMIUM = os.environ.get("NEORT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]


@contextlib.contextmanager
def launched() -> Iterator[Any]:
    """Yield playwright's Browser, with a profile of its own, and close it. It asks no host for anything by itself."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: see docs/playground.md")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium, or its path in NEORT_CHROMIUM")
    unconfined = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *unconfined])
        yield browser
        browser.close()


def refused_directive(page: Any) -> Any:
    """The directive of a page's Content-Security-Policy by which it refuses a script that is put into it."""
    return page.evaluate(
        """async () => {
            const seen = new Promise((tell) => addEventListener("securitypolicyviolation", tell, { once: true }));
            const script = document.createElement("script");
            script.textContent = "document.title = 'owned'";
            document.body.append(script);
            return (await seen).effectiveDirective;
        }"""
    )
