"""Tables about what models write, as lines of Markdown."""

from __future__ import annotations

from typing import Any

__all__ = ["repeats", "texts"]


def repeats(results: dict[str, Any]) -> list[str]:
    """How many texts repeat themselves and how many of their tokens differ, by way of decoding and length."""
    prompts, run, ways = len(results["prompts"]), results["run"], results["ways"]
    lengths = [cell["tokens"] for cell in next(iter(ways.values()))]
    titles = [f"{length} tokens: a run of {run} comes twice | different tokens" for length in lengths]
    rows = [
        [f"{cell['repeating']} of {prompts} | {cell['distinct_share']:.0%}" for cell in way] for way in ways.values()
    ]
    return [
        f"| {results['bundle']} | {' | '.join(titles)} |",
        "|---|" + "---|---|" * len(lengths),
        *(f"| {way} | {' | '.join(row)} |" for way, row in zip(ways, rows, strict=True)),
    ]


def texts(results: dict[str, Any]) -> list[str]:
    """Every prompt and what follows it, in one line each."""
    rows = [
        f"| {prompt} | {' '.join(text.split())} |"
        for prompt, text in zip(results["prompts"], results["texts"], strict=True)
    ]
    return [f"| prompt | {results['bundle']}, seed 0 |", "|---|---|", *rows]
