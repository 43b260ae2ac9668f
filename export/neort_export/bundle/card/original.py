"""What the card beside a checkpoint says of it: licence, languages, data, base model, limits and biases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...checkpoint import read_bytes
from ...errors import CheckpointError
from ...markdown import read_front_matter, section_about

__all__ = ["HUB_ID", "OriginalCard", "read_original_card"]

CARD = "README.md"
LARGEST_CARD = 1 << 20  # bytes
MOST_VALUES = 20
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
DATASET = re.compile(rf"({HUB_ID.pattern})|[a-z][\w.-]{{0,95}}", re.ASCII)
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,49}")
KNOWN_LICENCES = re.compile(
    r"afl-3\.0|(a|l)?gpl-3\.0|l?gpl|gpl-2\.0|lgpl-2\.1|lgpl-lr|apache-2\.0|apple-(amlr|ascl)|artistic-2\.0|"
    r"bigcode-openrail-m|"
    r"bigscience-(bloom-rail-1\.0|openrail-m)|bsd(-[23]-clause|-3-clause-clear)?|bsl-1\.0|c-uda|cc|cc0-1\.0|"
    r"cc-by-(2\.0|2\.5|3\.0|4\.0)|cc-by-nc-[234]\.0|cc-by-(nc-nd|sa)-[34]\.0|cc-by-nc-sa-[234]\.0|cc-by-nd-4\.0|"
    r"cdla-(permissive-[12]|sharing-1)\.0|creativeml-openrail-m|deepfloyd-if-license|ecl-2\.0|epl-[12]\.0|etalab-2\.0|"
    r"eupl-1\.[12]|gemma|gfdl|isc|llama[23]|lppl-1\.3c|mit|mpl-2\.0|ms-pl|ncsa|odbl|odc-by|ofl-1\.1|openrail(\+\+)?|"
    r"osl-3\.0|other|pddl|postgresql|unlicense|wtfpl|zlib"
)  # what the hub knows; for any other it wants "other", with a name
LICENCE_NAME = re.compile(r"[A-Za-z0-9][\w. +()-]{0,99}", re.ASCII)
LINK = re.compile(r"(https://[\w./?=&%#~:+-]{1,300})|LICENSE(\.\w{1,10})?", re.ASCII)
LANGUAGE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")
LIMITS = re.compile(r"\b(limitation|bias)", re.IGNORECASE)


@dataclass(frozen=True)
class OriginalCard:
    """The fields that a bundle's card takes over, each None or empty where the card has no sound one."""

    licence: str | None = None
    licence_name: str | None = None
    licence_link: str | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    base_model: str | None = None
    limits: str = ""
    exists: bool = False


def read_original_card(folder: Path) -> OriginalCard:
    """The card of a checkpoint's folder; one without anything where there is none, or none that can be read."""
    try:
        card = read_bytes(folder / CARD, LARGEST_CARD).decode("utf-8", errors="replace")
    except CheckpointError:
        return OriginalCard()
    header, body = read_front_matter(card)
    named = _first(header.get("license"), LICENCE)
    licence = named if named is None or KNOWN_LICENCES.fullmatch(named) else "other"
    own_name = _first(header.get("license_name"), LICENCE_NAME) or (named if named != "other" else None)
    return OriginalCard(
        licence=licence,
        licence_name=own_name if licence == "other" else None,
        licence_link=_first(header.get("license_link"), LINK) if licence == "other" else None,
        languages=tuple(_values(header.get("language"), LANGUAGE)),
        datasets=tuple(_values(header.get("datasets"), DATASET)),
        base_model=_first(header.get("base_model"), HUB_ID),
        limits=section_about(body, LIMITS),
        exists=True,
    )


def _values(value: Any, pattern: re.Pattern[str]) -> Iterator[str]:
    """The sound ones of one value or several."""
    several = value if isinstance(value, list) else [value]
    return (each for each in several[:MOST_VALUES] if isinstance(each, str) and pattern.fullmatch(each))


def _first(value: Any, pattern: re.Pattern[str]) -> str | None:
    return next(_values(value, pattern), None)
