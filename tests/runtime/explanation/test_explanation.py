"""Explained tokens: their figures are those of the logits, and a page shows any text and loads nothing."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from neort import Model
from neort.explanation import Alternative, ExplainedToken, explain, html_page, perplexity
from neort.explanation import tokens as room

TEXT = "It was a dark and stormy night, é 日本"


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_figures_are_those_of_the_logits(model: Model, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(room, "ROWS", rows)
    ids = model.tokenizer.encode(TEXT)
    explained = explain(model, ids, top=4, prompt_tokens=len(ids) - 2)
    logits = model.logits(ids).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert [token.token_id for token in explained] == ids
    assert (explained[0].probability, explained[0].alternatives) == (None, ())
    assert [token.generated for token in explained] == [False] * (len(ids) - 2) + [True] * 2
    for token, row in zip(explained[1:], probabilities, strict=False):
        assert token.probability == pytest.approx(row[token.token_id])
        assert token.surprisal == pytest.approx(-math.log2(row[token.token_id]))
        assert token.rank == 1 + (row > row[token.token_id]).sum()
        assert [each.token_id for each in token.alternatives] == np.argsort(-row)[:4].tolist()
    likelihood = [probabilities[i, token_id] for i, token_id in enumerate(ids[1:])]
    assert perplexity(explained) == pytest.approx(math.exp(-np.mean(np.log(likelihood))))


def test_parts_of_a_character_are_shown_as_bytes(model: Model) -> None:
    ids = model.tokenizer.encode("日")
    assert [token.text for token in explain(model, ids, prompt_tokens=9)] == ["\\xe6", "\\x97", "\\xa5"]


def test_one_token_has_no_perplexity(model: Model) -> None:
    assert perplexity(explain(model, [5], prompt_tokens=1)) is None


NASTY = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "&amp;",
    "\n",
    "<!--DATA-->",
    "\ud800",
    "",
]


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def nasty_page() -> str:
    tokens = [ExplainedToken(0, NASTY[0], False)]
    tokens += [ExplainedToken(i, text, True, 0.3, 2, 1.7, (Alternative(7, text, 0.5),)) for i, text in enumerate(NASTY)]
    return html_page(tokens, title="<b>title</b>")


def test_a_page_shows_any_text_as_text() -> None:
    page = Page(nasty_page())
    counts = [tag for tag, _ in page.tags]
    assert (counts.count("script"), counts.count("img"), counts.count("b")) == (2, 0, 0)
    spans = [facts for tag, facts in page.tags if tag == "span" and "data-i" in facts]
    assert len(spans) == len(NASTY) + 1


def test_a_page_has_its_tokens_for_its_script() -> None:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', nasty_page(), re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert [each["text"] for each in data[1:]] == NASTY
    assert data[1]["alternatives"] == [{"token_id": 7, "text": NASTY[0], "probability": 0.5}]


def test_a_page_asks_no_host_for_anything() -> None:
    page = Page(nasty_page())
    assert not [facts for _, facts in page.tags if {"src", "href", "srcset", "action"} & facts.keys()]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?://", nasty_page())
    policy = next(facts["content"] for tag, facts in page.tags if facts.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_is_legible_on_every_colour_in_light_and_in_dark() -> None:
    light, dark = re.findall(r":root \{(.*?)\}", nasty_page(), re.DOTALL)
    for scheme in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        assert all(contrast(colours["ink"], colours[name]) >= 4.5 for name in ("paper", "p1", "p2", "p3"))
        assert contrast(colours["ink"], colours["p4"]) >= 3.8
        assert contrast(colours["ink5"], colours["p5"]) >= 4.5
        assert contrast(colours["soft"], colours["paper"]) >= 4.5
