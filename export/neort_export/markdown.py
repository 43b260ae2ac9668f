"""Markdown and YAML of model cards, safe whatever the names and the text of strangers' files are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["code", "front_matter", "quoted", "read_front_matter", "section_about"]

LONGEST_HEADER = 1 << 16  # characters
MOST_BRACKETS = 200  # which nested by the thousand keep YAML's parser busy for seconds
LONGEST_QUOTE = 4000
LONGEST_LINE = 1000
LONGEST_NAME = 200
HEADING = re.compile(r"(#{1,6})\s+(.*)")
FENCE = re.compile(r"\s*(```|~~~)")


def front_matter(fields: Mapping[str, Any]) -> str:
    """The YAML header of a card; fields without a value are left out."""
    import yaml

    kept = {name: value for name, value in fields.items() if value not in (None, "", [])}
    return f"---\n{yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=LONGEST_LINE)}---\n"


def read_front_matter(card: str, *, typed: bool = False) -> tuple[dict[str, Any], str]:
    """The fields of a card's header, and the card without it; no fields where none can be read.

    All scalars are text, unless numbers, dates and truth are to be told by ``typed``.
    """
    import yaml

    found = re.match(r"\ufeff?---[ \t]*\n(.*?)\n---[ \t]*(\n|\Z)", card, re.DOTALL)
    if found is None:
        return {}, card
    body, header = card[found.end() :], found[1]
    if len(header) > LONGEST_HEADER or len(re.findall(r"[\[{]", header)) > MOST_BRACKETS:
        return {}, body
    try:
        fields = yaml.load(header, yaml.SafeLoader if typed else yaml.BaseLoader)  # untyped, "no" is Norwegian
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}, body
    return (fields if isinstance(fields, dict) else {}), body


def code(name: str) -> str:
    """A name as code, on one line, of bounded length."""
    told = "".join(each if each.isprintable() and each != "`" else "?" for each in name)
    return f"`{told[:LONGEST_NAME].strip() or '?'}`"


def section_about(card: str, words: re.Pattern[str]) -> str:
    """The first section of a card whose heading matches, without the heading; empty where there is none."""
    lines: list[str] = []
    level, fenced = 0, False
    for line in card.splitlines():
        fenced ^= FENCE.match(line) is not None
        heading = None if fenced else HEADING.match(line)
        if heading and level and len(heading[1]) <= level:
            break
        if level:
            lines.append(line)
        elif heading and words.search(heading[2]):
            level = len(heading[1])
    return "\n".join(lines).strip()


def quoted(text: str) -> str:
    """A stranger's Markdown as a quotation: without HTML, images, headings and control characters, and not too long."""
    lines = []
    for line in _shortened(text).splitlines():
        told = "".join(each if each.isprintable() else " " for each in line).rstrip()
        told = HEADING.sub(r"**\2**", told).replace("<", "&lt;").replace("![", "[")
        lines.append(f"> {told}".rstrip())
    return "\n".join(lines)


def _shortened(text: str) -> str:
    lines = "\n".join(line[:LONGEST_LINE] for line in text.splitlines())
    return lines if len(lines) <= LONGEST_QUOTE else f"{lines[:LONGEST_QUOTE].rpartition(' ')[0]} ..."
