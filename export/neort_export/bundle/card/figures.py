"""The figures of verification.json in a card: words and a table, between marks by which they are found again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neort.verification import VERIFICATION

from ...checkpoint import read_object

__all__ = ["common_figures", "figures_of", "with_figures"]

BEGIN, END = "<!-- neort: figures -->", "<!-- neort: end of figures -->"
DEFINITIONS = """\
- KL: KL(torch || bundle), in nats per token: how far the bundle's distribution of the next token is from that of the
  original in torch, in float32; the mean and the 99th percentile over all positions. 0 is equal.
- top-1 agreement: the share of positions at which both have the same most probable token.
- perplexity ratio: the bundle's perplexity over torch's on the same text; after +- its standard error. 1 is equal."""


def with_figures(card: str, figures: str) -> str:
    """A card with other figures; one whose marks were removed stays as it was."""
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{figures}{after}" if begin and end else card


def figures_of(folder: Path) -> str:
    """What verification.json says, in words, between marks by which it is found again."""
    return f"{BEGIN}\n{common_figures([folder])}\n{END}"


def common_figures(folders: Sequence[Path]) -> str:
    """What the verification.json of several formats of one model say, in one table."""
    found = [read_object(folder / VERIFICATION) for folder in folders if (folder / VERIFICATION).exists()]
    return _measured(found) if found else "Not measured: exported with `--no-verify`."


def _measured(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        "| | mean KL | p99 KL | top-1 agreement | perplexity ratio | grade |",
        "|---|---|---|---|---|---|",
        *(
            _row(name, figures, each["grades"].get(name, ""))
            for each in found
            for name, figures in each["against_torch"].items()
        ),
    ]
    meanings = "; ".join(dict.fromkeys(str(grade) for each in found for grade in each["grades"].values()))
    facts = [
        *dict.fromkeys(map(_text, found)),
        *([f"- grade: what quantization lost. {meanings}."] if meanings else []),
        *dict.fromkeys(map(_identity, found)),
    ]
    return "\n".join([*rows, "", DEFINITIONS, *facts])


def _text(found: Mapping[str, Any]) -> str:
    text, perplexity = found["text"], next(iter(found["against_torch"].values()))["torch_perplexity"]
    return (
        f"- measured on {text['tokens']:,} tokens, in sequences of {text['sequence_length']:,}, of the text with the "
        f"SHA-256 `{text['sha256']}`; torch's perplexity on it is {_number(perplexity, '.4g')}."
    )


def _identity(found: Mapping[str, Any]) -> str:
    difference = _number(found["identity"]["batch_max_abs_diff"], "g")
    return f"- a sequence in a batch has logits that differ from those alone by at most {difference}."


def _row(name: str, figures: Mapping[str, Any], grade: str) -> str:
    cells = [
        name,
        _number(figures["mean_kl"], ".1e"),
        _number(figures["p99_kl"], ".1e"),
        _number(figures["top1_agreement"], ".2%"),
        f"{_number(figures['perplexity_ratio'], '.5f')} +- {_number(figures['perplexity_ratio_error'], '.5f')}",
        re.split(":", grade, maxsplit=1)[0],
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: Any, spec: str) -> str:
    """A figure; verification.json has null for one that is no finite number."""
    return "not finite" if value is None else format(value, spec)
