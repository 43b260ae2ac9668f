"""A page of explained tokens, whole in one file: it asks no host for anything, and says so to the browser.

The tokens are coloured by their probability, in one hue that tells from light to dark to any eye; a token that is
looked at or clicked shows its alternatives. Without scripts the text, its colours and the chart remain.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict

from .tokens import ExplainedToken, perplexity

__all__ = ["html_page"]

PLACE = re.compile("<!--([A-Z]+)-->")
CLASSES = ((0.5, "p1"), (0.2, "p2"), (0.05, "p3"), (0.01, "p4"), (0.0, "p5"))
LEGEND = {"p1": "50 % or more", "p2": "20 % or more", "p3": "5 % or more", "p4": "1 % or more", "p5": "less"}
CHART_HEIGHT, CHART_WIDTH, MARGIN = 120, 960, 34


def html_page(tokens: Sequence[ExplainedToken], *, title: str) -> str:
    """The page; ``title`` names the model."""
    parts = {
        "TITLE": html.escape(title),
        "SUMMARY": html.escape(_summary(tokens)),
        "LEGEND": "".join(f'<span class="tok {name}">{text}</span> ' for name, text in LEGEND.items()),
        "TOKENS": "".join(_span(place, token) for place, token in enumerate(tokens)),
        "CHART": _chart(tokens),
        "DATA": _script_safe([asdict(token) for token in tokens]),
    }
    from importlib import resources  # slow, and every command imports this module

    page = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return PLACE.sub(lambda found: parts[found[1]], page)


def _summary(tokens: Sequence[ExplainedToken]) -> str:
    told = [f"{len(tokens):,} tokens"]
    if generated := sum(token.generated for token in tokens):
        told.append(f"{generated:,} of them generated")
    if (value := perplexity(tokens)) is not None:
        told.append(f"perplexity {value:,.1f}")
    return ", ".join(told)


def _class(probability: float | None) -> str:
    return "p0" if probability is None else next(name for least, name in CLASSES if probability >= least)


def _span(place: int, token: ExplainedToken) -> str:
    """A token of the text; one that breaks the line does so after its span."""
    generated = " new" if token.generated else ""
    said = "first token" if token.probability is None else f"{token.probability:.1%}, rank {token.rank}"
    shown = html.escape(token.text.replace("\n", "\u23ce")) or "\u2205"
    breaks = "<br>" * token.text.count("\n")
    return (
        f'<span class="tok {_class(token.probability)}{generated}" data-i="{place}" tabindex="0" role="button" '
        f'title="{said}">{shown}</span>{breaks}'
    )


def _script_safe(value: object) -> str:
    """JSON that can end no script element, whatever text is in it."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _chart(tokens: Sequence[ExplainedToken]) -> str:
    """The surprisal of each token as a line, SVG; nothing for fewer than two."""
    bits = [token.surprisal for token in tokens if token.surprisal is not None]
    if len(bits) < 2:
        return ""
    most = max(*bits, 1.0)
    step = (CHART_WIDTH - MARGIN) / (len(bits) - 1)
    points = [(MARGIN + i * step, CHART_HEIGHT * (1 - value / most) + 8) for i, value in enumerate(bits)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle data-i="{i + 1}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for i, (x, y) in enumerate(points))
    marks = "".join(
        f'<line class="grid" x1="{MARGIN}" x2="{CHART_WIDTH}" y1="{y}" y2="{y}"/>'
        f'<text x="{MARGIN - 6}" y="{y + 4}" text-anchor="end">{value:.0f}</text>'
        for value, y in ((most, 8), (0.0, CHART_HEIGHT + 8))
    )
    return (
        f'<svg viewBox="0 0 {CHART_WIDTH + 8} {CHART_HEIGHT + 18}" role="img" '
        f'aria-label="surprisal of each token, at most {most:.1f} bits">{marks}<polyline points="{line}"/>{dots}</svg>'
    )
