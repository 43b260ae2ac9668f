"""The site is built without a warning, needs no other host, and its links lead somewhere.

Needs the extra `docs`; .ci/run has it in an environment without torch.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from folders import ROOT

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sphinx", "furo", "myst_parser")),
    reason="the site's tools are not installed: pip install '.[docs]'",
)

LOADING = {"src", "srcset", "data", "poster", "action", "formaction", "background", "manifest"}  # attributes
ELSEWHERE = re.compile(r"(?i)^\s*([a-z][a-z0-9+.-]*:)?//")
URL_IN_CSS = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s]+)""")
JS_COMMENT = re.compile(r"/\*.*?\*/|(?<![:\"'`\w])//[^\n]*", re.DOTALL)
URL_IN_JS = re.compile(r"https?://[^\s\"'`)]+")
NAMESPACE = re.compile(r"http://www\.w3\.org/")  # of an XML document, which nobody fetches


@dataclass
class Page(HTMLParser):
    """What a page loads by itself, where its links lead, and which places it has."""

    file: Path
    loaded: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)
    styles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._tag = ""
        self.feed(self.file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        for name, value in ((name, value or "") for name, value in attrs):
            if name in LOADING or (name in ("href", "xlink:href") and tag not in ("a", "area")):
                self.loaded += [part.split()[0] for part in value.split(",") if part.strip()]
            elif name == "href":
                self.links.append(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.places.add(value)
            elif name == "style":
                self.styles.append(value)
            elif name == "http-equiv" and value.lower() == "refresh":
                self.loaded.append(dict(attrs).get("content") or "")

    def handle_data(self, data: str) -> None:
        if self._tag == "style":
            self.styles.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site that was built strictly: a warning, such as for a broken link, is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(folder / "read"), "docs"]
    built = subprocess.run([*command, str(folder / "html")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}


def test_no_page_asks_another_host_for_anything(site: Path, pages: dict[Path, Page]) -> None:
    assert pages
    wanted = [(page.file.name, url) for page in pages.values() for url in page.loaded]
    for page in pages.values():
        wanted += [(page.file.name, url) for url in URL_IN_CSS.findall("\n".join(page.styles))]
    for file in site.rglob("*.css"):
        wanted += [(file.name, url) for url in URL_IN_CSS.findall(file.read_text(encoding="utf-8"))]
    for file in site.rglob("*.js"):
        code = JS_COMMENT.sub("", file.read_text(encoding="utf-8"))
        wanted += [(file.name, url) for url in URL_IN_JS.findall(code) if not NAMESPACE.match(url)]
    assert not [(file, url) for file, url in wanted if ELSEWHERE.match(url)]


def test_what_a_page_loads_or_links_to_is_there(site: Path, pages: dict[Path, Page]) -> None:
    missing = []
    for page in pages.values():
        for url in {*page.loaded, *page.links}:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (page.file.parent / unquote(parts.path)).resolve() if parts.path else page.file
            place = unquote(parts.fragment)
            if not target.is_file() or (place and target in pages and place not in pages[target].places):
                missing.append((page.file.name, url))
    assert not missing


def test_every_page_can_be_reached_from_the_first_one(site: Path, pages: dict[Path, Page]) -> None:
    linked = {(site / urlsplit(link).path).resolve() for link in pages[site / "index.html"].links}
    written = {site / f"{file.stem}.html" for file in (ROOT / "docs").glob("*.md")}
    assert written <= linked | {site / "index.html"}
