"""Tables of servers under load, as lines of Markdown: next to another server, a soak, and what a judge measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .markdown import machine

__all__ = ["judge", "serving", "soak"]

PERCENTILES = ("p50", "p95", "p99")


def serving(results: dict[str, Any]) -> list[str]:
    """All servers for every number of clients: medians over the rounds; multiples are those of the second one."""
    medians = results["medians"]
    ours, theirs = list(medians)[:2]
    return [
        f"| {results['name']}, {machine(results)}, {results['slots']} slots; "
        f"prompts of {span(results['prompt_tokens'])} and answers of {span(results['answer_tokens'])} tokens, "
        f"rounds: {results['rounds']} | clients | tokens/s | "
        f"as a multiple of {theirs} | TTFT p50, ms | TTFT p95, ms | TPOT p50, ms | TPOT p95, ms |",
        "|---|---|---|---|---|---|---|---|",
        *(
            row(f"**{name}**" if name == ours else name, clients, cells[clients], medians[theirs][clients])
            for clients in medians[ours]
            for name, cells in medians.items()
        ),
    ]


def span(lengths: Sequence[int]) -> str:
    """The shortest and the longest, in words."""
    return f"{lengths[0]} to {lengths[1]}"


def row(name: str, clients: str, cell: dict[str, Any], base: dict[str, Any]) -> str:
    """One server with so many clients."""
    rate, times = cell["tokens_per_second"], (cell[f"{kind}_milliseconds"] for kind in ("ttft", "tpot"))
    shown = " | ".join(f"{of[rank]:,.0f}" for of in times for rank in PERCENTILES[:2])
    return f"| {name} | {clients} | {rate:,.1f} | {rate / base['tokens_per_second']:.2f} | {shown} |"


def soak(results: dict[str, Any]) -> list[str]:
    """Times of a soak, what the process held, and what was wrong."""
    load, held = results["load"], results["held"]
    title = f"{results['bundle']}, {results['clients']} clients for {results['minutes']:g} minutes, {machine(results)}"
    wrong = "nothing" if not results["wrong"] else f"{sum(results['mistakes'].values())} answers"
    statuses = ", ".join(f"{count:,} of {status}" for status, count in sorted(load["statuses"].items()))
    return [
        f"| {title} | p50 | p95 | p99 | largest |",
        "|---|---|---|---|---|",
        *(
            f"| {label}, ms | " + " | ".join(f"{load[key][rank]:,.0f}" for rank in (*PERCENTILES, "max")) + " |"
            for label, key in (
                ("time to the first token", "ttft_milliseconds"),
                ("between two tokens", "itl_milliseconds"),
                ("the whole answer", "e2e_milliseconds"),
            )
        ),
        "",
        f"{load['requests']:,} requests ({statuses}), of which {load['left']:,} were left by their clients; "
        f"{load['tokens_per_second']:,.0f} tokens per second. Wrong: {wrong}. Resident memory "
        f"{held['first tenth']['resident_mb']:,.0f} MB after the first tenth of the load and "
        f"{held['end']['resident_mb']:,.0f} MB at its end; open files {held['alone']['files']} before and "
        f"{held['end']['files']} after.",
    ]


def judge(results: dict[str, Any]) -> list[str]:
    """What guidellm measured, for every number of clients."""
    return [
        f"| {results['name']}, {machine(results)}; by guidellm {results['version']} | clients | requests | failed | "
        "output tokens/s | TTFT p50, ms | TTFT p95, ms | ITL p50, ms | ITL p95, ms |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {cell['server']} | {cell['clients']} | {cell['successful']} | {cell['errored']} | "
            f"{cell['tokens_per_second']:,.1f} | "
            + " | ".join(f"{cell[kind][rank]:,.0f}" for kind in ("ttft", "itl") for rank in PERCENTILES[:2])
            + " |"
            for cell in results["cells"]
        ),
    ]
