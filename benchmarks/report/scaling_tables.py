"""Tables of what lies past one machine, as lines of Markdown: costs, shared parts, ways in, and what is assumed."""

from __future__ import annotations

from typing import Any

from .markdown import machine

__all__ = ["assumptions", "costs", "proxies", "ray_data", "saturation"]


def costs(results: dict[str, Any]) -> list[str]:
    """What a node does with each model, and what tokens cost."""
    return [
        "| model, use | tokens/s of a node | dollars per million new tokens | where nodes may be taken away | "
        "a trillion: days of 1,000 nodes | dollars |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {use['tokens_per_second']:,.0f} | {use['dollars_per_million_on_demand']:.2f} | "
            f"{use['dollars_per_million_spot']:.2f} | {use['days']:,.0f} | "
            f"{1e6 * use['dollars_per_million_spot']:,.0f} to {1e6 * use['dollars_per_million_on_demand']:,.0f} |"
            for name, use in results["uses"].items()
        ),
    ]


def saturation(results: dict[str, Any]) -> list[str]:
    """How much of each part a thousand nodes take, with the fullest first."""
    shapes = list(results["parts"])
    names = list(results["parts"][shapes[0]])
    names.sort(key=lambda name: -max(results["parts"][shape][name].get("share", 0.0) for shape in shapes))
    return [
        "| part | " + " | ".join(shapes) + " |",
        "|---|" + "---|" * len(shapes),
        *(
            f"| {name} | " + " | ".join(filled(results["parts"][shape][name]) for shape in shapes) + " |"
            for name in names
        ),
    ]


def filled(part: dict[str, float]) -> str:
    """A part's load, as far as there is one."""
    if "seconds" in part:
        return f"{part['seconds'] / 60:,.0f} min"
    share = f"{100 * part['share']:,.1f} %" if part["share"] < 1 else f"{part['share']:,.1f} times"
    if "full_at_nodes" not in part:
        return share
    full = part["full_at_nodes"]
    return f"{share}, full at {full:,.0f} nodes" if full >= 1 else f"{share}: less than a node fills it"


def proxies(results: dict[str, Any]) -> list[str]:
    """Microseconds of CPU for each event of a stream, by process, and what a replica takes that is asked nothing."""
    roles = ("server", "replica", "proxy", "HAProxy")
    spent = {name: way["cpu_milliseconds_per_1000_events"] for name, way in results["ways"].items()}
    return [
        f"| CPU time of an event, us; {machine(results)} | server or replica | proxy | together |",
        "|---|---|---|---|",
        *(
            f"| {name} | {way.get('server', way.get('replica', 0.0)):,.0f} | "
            f"{max(way.get('proxy', 0.0), 0.0) + way.get('HAProxy', 0.0):,.0f} | "
            f"{sum(max(way.get(role, 0.0), 0.0) for role in roles):,.0f} |"
            for name, way in spent.items()
        ),
    ]


def assumptions(results: dict[str, Any]) -> list[str]:
    """What no file of results holds."""
    return [
        "| what | value | from |",
        "|---|---|---|",
        *(
            f"| {each['what']} | {amount(each['value'])} {each['unit']} | {each['why']} |".replace("  ", " ")
            for each in results["assumptions"].values()
        ),
    ]


def amount(value: float) -> str:
    """A number as people write it."""
    for factor, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= factor:
            return f"{value / factor:g} {word}"
    return f"{value:,g}"


def ray_data(results: dict[str, Any]) -> list[str]:
    """Jobs of Ray Data beside one process: tokens per second, what comes before them, and memory."""
    rows = results["medians"]
    base = rows["one process"]["tokens_per_second"]
    return [
        f"| {results['name']}, {machine(results)} | tokens/s | of one process's | "
        "seconds beside the records | memory of the actors, MB | of the job's other processes, MB |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {row['tokens_per_second']:,.0f} | {row['tokens_per_second'] / base:.2f} | "
            f"{row['start_seconds']:.1f} | "
            + (f"{row['actors_pss_mb']:,.0f} | {row['others_pss_mb']:,.0f} |" if "actors" in row else "| |")
            for name, row in rows.items()
        ),
    ]
