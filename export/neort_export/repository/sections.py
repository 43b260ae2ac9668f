"""A card as its header and its sections, and the sections of several cards as those of one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Card", "merged_sections", "read_card"]

HEADING = re.compile(r"(#{1,6})\s+(.*)")
FENCE = re.compile(r"\s*(```|~~~)")
MARK = re.compile(r"<!-- neort: .* -->")  # by which a bundle's own figures are found again


@dataclass(frozen=True)
class Card:
    """What stands below the title, before the first section, and the sections by their headings, in order."""

    about: str
    sections: dict[str, str]


def read_card(body: str) -> Card:
    """The parts of a card without its header; a section that comes twice is one."""
    parts: dict[str, list[str]] = {"": []}
    name, fenced = "", False
    for line in body.splitlines():
        fenced ^= FENCE.match(line) is not None
        heading = None if fenced else HEADING.fullmatch(line.strip())
        if heading and len(heading[1]) == 2:
            name = heading[2].strip()
            parts.setdefault(name, [])
        elif not (heading and len(heading[1]) == 1) and not MARK.fullmatch(line.strip()):
            parts[name].append(line.rstrip())
    texts = {heading: "\n".join(lines).strip() for heading, lines in parts.items()}
    return Card(texts.pop(""), texts)


def merged_sections(cards: Mapping[str, Card], *, without: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The sections of the cards of several formats: what all have in common once, and what differs under each format.

    ``without`` are headings that are left out.
    """
    headings = dict.fromkeys(heading for card in cards.values() for heading in card.sections)
    for heading in headings:
        if heading not in without:
            texts = {name: card.sections[heading] for name, card in cards.items() if heading in card.sections}
            yield heading, merged(texts, of=len(cards))


def merged(texts: Mapping[str, str], *, of: int) -> str:
    """One text of those of each format: what all ``of`` of them have, else each under its format's name."""
    if len(texts) == of and len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "\n\n".join(f"### {name}\n\n{_deeper(text)}".rstrip() for name, text in texts.items())


def _deeper(text: str) -> str:
    """A text whose headings are one level below."""
    lines, fenced = [], False
    for line in text.splitlines():
        fenced ^= FENCE.match(line) is not None
        heading = None if fenced else HEADING.match(line)
        lines.append(f"#{line}" if heading and len(heading[1]) < 6 else line)
    return "\n".join(lines)
