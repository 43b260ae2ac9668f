"""Tables of several processes, as lines of Markdown: workers against threads, their memory, and who gets a request."""

from __future__ import annotations

from typing import Any

from .markdown import machine

__all__ = ["dispatch", "processes", "processes_memory"]


def processes(results: dict[str, Any]) -> list[str]:
    """Each number of workers: a file of prompts, and a server with each number of clients."""
    medians = results["medians"]
    clients = [*next(iter(medians.values()))["clients"]]
    columns = [f"{count} client{'' if count == '1' else 's'}: tokens/s, TTFT and TPOT p50, ms" for count in clients]
    return [
        f"| {results['name']}, {machine(results)} | a file of prompts, tokens/s | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
        *(
            f"| {_arrangement(results, workers)} | {row['tokens_per_second']:,.0f} | "
            + " | ".join(_cell(row["clients"][count]) for count in clients)
            + " |"
            for workers, row in medians.items()
        ),
    ]


def processes_memory(results: dict[str, Any]) -> list[str]:
    """Each number of workers: how long a server takes to be ready, and the memory of all of its processes."""
    return [
        f"| {results['name']}, {machine(results)} | ready after, s | memory of all processes (PSS), MB | "
        "of it not shared, MB |",
        "|---|---|---|---|",
        *(
            f"| {_arrangement(results, workers)} | {row['start_seconds']:.1f} | {row['pss_mb']:,.0f} | "
            f"{row['anonymous_mb']:,.0f} |"
            for workers, row in results["medians"].items()
        ),
    ]


def dispatch(results: dict[str, Any]) -> list[str]:
    """Who waits how long, for each number of workers and each way of spreading requests."""
    rows = results["rows"]
    ways = [*dict.fromkeys(row["way"] for row in rows)]
    found = {(row["workers"], row["way"]): row for row in rows}
    return [
        f"| workers of {results['slots']} slots, at {results['load']:.0%} of what they can take | "
        + " | ".join(f"{way}: refused, p95 of the wait" for way in ways)
        + " |",
        "|---|" + "---|" * len(ways),
        *(
            f"| {count} | " + " | ".join(_wait(found[count, way]) for way in ways) + " |"
            for count in dict.fromkeys(row["workers"] for row in rows)
        ),
    ]


def _arrangement(results: dict[str, Any], workers: str) -> str:
    count = int(workers)
    threads = max(1, results["cpus"] // count)
    plural = "" if threads == 1 else "s"
    return f"one process of {threads} thread{plural}" if count == 1 else f"{count} workers of {threads} thread{plural}"


def _cell(cell: dict[str, Any]) -> str:
    times = (cell[f"{kind}_milliseconds"]["p50"] for kind in ("ttft", "tpot"))
    return f"{cell['tokens_per_second']:,.0f}, " + ", ".join(f"{time:,.1f}" for time in times)


def _wait(row: dict[str, Any]) -> str:
    return f"{row['refused']:.1%}, {row['p95']:.2f}"
