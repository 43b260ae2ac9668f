"""The playground's files: whole, of no other host, and with nothing that its policy would refuse."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from folders import ROOT
from neort.server.playground import CONTENT_SECURITY_POLICY, page_files

FOLDER = ROOT / "runtime/neort/server/playground/static"
FILES = {name: content.decode() for name, (content, _) in page_files().items()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
TEXT, CONTROL = 4.5, 3.0  # the contrast that WCAG 2.2 AA asks of text, and of the edges of controls

NAMESPACE = "http://www.w3.org/2000/svg"  # of the icon: a name, which nothing is loaded from


class Document(HTMLParser):
    """The elements of the page: name, attributes, and the text right after the start tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data


DOCUMENT = Document(FILES["index.html"])


def test_every_file_is_packaged() -> None:
    assert set(FILES) == {file.name for file in FOLDER.iterdir()}
    assert {"index.html", "playground.css", "playground.js"} <= set(FILES)


def test_media_types_are_those_that_browsers_take_with_nosniff() -> None:
    types = {name.rpartition(".")[2]: media_type for name, (_, media_type) in page_files().items()}
    assert types == {
        "html": "text/html; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
    }


def test_the_policy_admits_the_pages_own_files_and_a_data_icon_only() -> None:
    directives = dict(part.strip().split(" ", 1) for part in CONTENT_SECURITY_POLICY.split(";"))
    assert directives == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_document_holds_no_script_style_or_handler_of_its_own() -> None:
    for (tag, attributes), text in zip(DOCUMENT.elements, DOCUMENT.texts, strict=True):
        assert tag != "style"
        assert tag != "script" or (attributes.get("src") and not text.strip())
        assert [name for name in attributes if name == "style" or name.startswith("on")] == []


def test_every_address_in_the_document_is_a_file_of_the_page_or_data() -> None:
    addresses = [a[name] for _, a in DOCUMENT.elements for name in ("src", "href", "action") if name in a]
    assert addresses
    assert [each for each in addresses if each not in FILES and not (each or "").startswith("data:")] == []


@pytest.mark.parametrize("name", FILES)
def test_no_other_host_is_named(name: str) -> None:
    assert re.findall(r"https?://|[\"'(]//", FILES[name].replace(NAMESPACE, "")) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_make_no_html_of_text_and_keep_nothing(name: str) -> None:
    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|createContextualFragment|DOMParser|srcdoc"
        r"|\beval\b|new Function|localStorage|sessionStorage|indexedDB|cookie|pushState|replaceState",
        SCRIPTS[name],
    )
    assert found == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_import_files_of_the_page(name: str) -> None:
    imported = re.findall(r"from \"(.*?)\"", SCRIPTS[name])
    assert [each for each in imported if not each.startswith("./") or each[2:] not in SCRIPTS] == []


def test_every_control_of_the_document_has_a_name() -> None:
    labelled = {attributes.get("for") for tag, attributes in DOCUMENT.elements if tag == "label"}
    inside_labels = {"tint", "with-prompt"}
    controls = [a.get("id") for tag, a in DOCUMENT.elements if tag in ("input", "textarea")]
    assert controls
    assert [each for each in controls if each not in labelled | inside_labels] == []


def themes() -> dict[str, dict[str, str]]:
    """The colours of each theme, by name; dark and print name those that differ from light."""
    blocks = re.findall(r":root \{(.*?)\}", FILES["playground.css"], re.DOTALL)
    light, dark, printed = (dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in blocks)
    return {"light": light, "dark": light | dark, "print": light | printed}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours, as WCAG 2.2 defines it."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_that_of_wcags_examples() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_text_can_be_read_on_every_colour_it_stands_on(theme: str) -> None:
    colours = themes()[theme]
    grounds = {
        "ink": ["paper", "raised", "hint", "p2", "p3", "p4", "p5"],
        "soft": ["paper", "raised", "hint"],
        "wrong": ["paper"],
        "on-bar": ["bar"],
    }
    ratios = {(i, g): contrast(colours[i], colours[g]) for i, places in grounds.items() for g in places}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < TEXT} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_edges_focus_and_bars_stand_out(theme: str) -> None:
    colours = themes()[theme]
    pairs = [(each, ground) for each in ("edge", "bar", "own") for ground in ("paper", "raised")]
    ratios = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < CONTROL} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_less_probable_token_stands_out_more(theme: str) -> None:
    colours = themes()[theme]
    ratios = [contrast(colours["paper"], colours[name]) for name in ("p2", "p3", "p4", "p5")]
    assert ratios == sorted(ratios)
    assert ratios[0] > 1.05
