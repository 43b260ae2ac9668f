"""Tables of exports, as lines of Markdown: what they take, and how they grade models."""

from __future__ import annotations

from typing import Any

__all__ = ["exports", "grades"]


def exports(results: dict[str, Any]) -> list[str]:
    """Time, memory and size of exports by shape and format, and of peers."""
    rows: list[str] = []
    alone = list(results["alone"].values())
    traced = [f"{facts['imports_and_tracing'] / 1e9:.2f}" for facts in alone]
    for shape, facts in results["alone"].items():
        source = f"{shape} ({facts['checkpoint_bytes'] / 1e9:.1f} GB)"
        rows += [
            f"| {source} | {row['format']} | {row['seconds']:.0f} | {row['seconds_with_verification']:.0f} | "
            f"{row['peak_bytes'] / 1e9:.2f} | {row['bytes'] / 1e9:.2f} |"
            for row in results["exports"]
            if row["shape"] == shape
        ]
        rows += [
            f"| {source} | {row['peer']} int8, per tensor | not run: {row['skipped']} | | | |"
            if "skipped" in row
            else f"| {source} | {row['peer']} int8, per tensor | {row['seconds']:.0f} | does not verify | "
            f"{row['peak_bytes'] / 1e9:.2f} | {row['bytes'] / 1e9:.2f} |"
            for row in results["peers"]
            if row["shape"] == shape
        ]
    return [
        "| checkpoint, fp32 | format | seconds | with verification | peak memory, GB | bundle, GB |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"Of the peak memory, torch and the other imports take {max(a['imports'] for a in alone) / 1e9:.2f} GB; "
        f"with tracing it is {', '.join(traced)} GB.",
    ]


def grades(results: dict[str, Any]) -> list[str]:
    """Two tables: what each format's bundle is graded, and what the comparison of each layer finds."""
    first = next(iter(results["models"].values()))
    formats = [name for name in first["formats"] if name != "fp32"]
    return [
        f"| perplexity over torch's, mean KL | {' | '.join(formats)} |",
        "|---|" + "---|" * len(formats),
        *(
            f"| {model} | {' | '.join(_grade(row['formats'].get(name)) for name in formats)} |"
            for model, row in results["models"].items()
        ),
        "",
        f"| largest error in units of torch's own | {' | '.join(first['structure'])} |",
        "|---|" + "---|" * len(first["structure"]),
        *(
            f"| {model} | {' | '.join(_error(found) for found in row['structure'].values())} |"
            for model, row in results["models"].items()
        ),
    ]


def _grade(row: dict[str, Any] | None) -> str:
    """A format's grade, perplexity ratio and mean KL; or that it was refused."""
    if row is None:
        return "not run"
    if "refused" in row:
        return "poor: not written"
    found = row["fp32_cache"]
    cache = row["int8_cache"]["grade"] if "int8_cache" in row else "left out"
    with_cache = "" if cache == found["grade"] else f" (int8 cache {cache})"
    return f"{found['grade']}{with_cache}: {found['perplexity_ratio']:.3f}, {found['mean_kl']:.1e}"


def _error(found: dict[str, Any]) -> str:
    return f"{found['largest_error']:.2g}" + (": refused" if found["refused"] else "")
