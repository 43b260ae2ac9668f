"""Writes the tables of the README and of docs/ from the files in results/.

    python benchmarks/readme.py [--check]

A table stands between `<!-- results: NAME -->` and `<!-- end -->`, where NAME is that of a file in results/; of a name
like `generate-gpt-neo-1.3b`, `generate` says which table; `shares` and `batches` show the file of `generate`. Where the
file is missing, the document stays as it is.
With --check nothing is written, and the exit status is 1 when a table is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import own_tables
import speculation_tables
import tables

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
NAMES = ("benchmarks.md", "formats.md", "quantization.md", "speculation.md", "verification.md")
DOCUMENTS = (ROOT / "README.md", *(ROOT / "docs" / name for name in NAMES))


def quality(results: dict[str, Any]) -> list[str]:
    tokens = next(iter(results["formats"].values()))["tokens"]
    rows = [
        f"| {name} | {row['bytes'] / 1e6:.1f} | {row['max_abs_diff']:.1e} | {row['mean_kl']:.1e} | "
        f"{row['p99_kl']:.1e} | {row['top1_agreement']:.2%} | {row['perplexity_ratio']:.5f} |"
        for name, row in results["formats"].items()
    ]
    return [
        f"| {results['checkpoint']}, {tokens:,} tokens | MB | max abs logit difference | mean KL (nats) | p99 KL | "
        "top-1 agreement | perplexity ratio |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


def installed(results: dict[str, Any]) -> list[str]:
    packages = sorted(results["packages"].items(), key=lambda item: -item[1]["bytes"])
    listed = ", ".join(f"{name} {facts['bytes'] / 1e6:.1f}" for name, facts in packages)
    total = results["total_bytes"] / 1e6
    return [f"`pip install .` brings {total:.0f} MB in {len(packages)} packages (MB each): {listed}."]


def refinements(results: dict[str, Any]) -> list[str]:
    checkpoints = results["checkpoints"]
    first = next(iter(checkpoints.values()))
    cells = {
        variant: [
            f"{rows[variant]['mean_kl']:.1e} | {rows[variant]['perplexity_ratio']:.4f}" for rows in checkpoints.values()
        ]
        for variant in first
    }
    return [
        "| | " + " | ".join(f"{name}: mean KL | perplexity ratio" for name in checkpoints) + " |",
        "|---|" + "---|---|" * len(checkpoints),
        *(f"| {variant} | {' | '.join(columns)} |" for variant, columns in cells.items()),
    ]


def exports(results: dict[str, Any]) -> list[str]:
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


def speed(results: dict[str, Any]) -> list[str]:
    rows = [
        f"| {name} | {row['weight_bytes'] / 1e9:.2f} | {row['prefill_tokens_per_second']:.0f} | "
        f"{row['decode_tokens_per_second']:.1f} |"
        for name, row in results["formats"].items()
    ]
    return [
        f"| {results['checkpoint']}, {results['threads']} threads, {results['machine']['cpu']} | weights, GB | "
        f"prefill of {results['prompt_tokens']}, tokens/s | decode behind it, tokens/s |",
        "|---|---|---|---|",
        *rows,
    ]


def processors(results: dict[str, Any]) -> list[str]:
    tokens = max(row["tokens"] for row in results["rows"])
    rows = [
        f"| {row['processor']} | {row['format']} | {row['max_abs_diff']:.1e} | {row['mean_kl']:.1e} | "
        + f"{row['batch_max_abs_diff']:.1g} | "
        + (f"{other['max_abs_diff']:.1f} | {other['mean_kl']:.1e} |" if (other := row.get("without_remedy")) else "| |")
        for row in results["rows"]
    ]
    return [
        f"| {tokens} tokens, against {' '.join(results['machine']['int8_instructions'])} | format | "
        "max abs logit difference | mean KL (nats) | alone against in a batch | "
        "without the remedy: difference | mean KL |",
        "|---|---|---|---|---|---|---|",
        *rows,
        *(f"| {name} | not run: {reason} | | | | | |" for name, reason in results["skipped"].items()),
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


TABLES: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "quality": quality,
    "installed": installed,
    "refinements": refinements,
    "block_refinements": refinements,
    "exports": exports,
    "grades": grades,
    "speed": speed,
    "processors": processors,
    "speculation": speculation_tables.speculation,
    "row_costs": speculation_tables.row_costs,
    "draft_model": speculation_tables.draft_model,
    "generate": tables.generate,
    "shares": tables.shares,
    "batches": tables.batches,
    "cold_start": tables.cold_start,
    "memory": tables.memory,
    "profile": own_tables.profile,
    "kv_cache": own_tables.kv_cache,
    "block_sizes": own_tables.block_sizes,
    "far_channels": own_tables.far_channels,
    "threads": own_tables.threads,
}
SOURCES = {"shares": "generate", "batches": "generate"}  # whose results a table shows, where its name does not say it


def render(text: str) -> str:
    """A document with every table made anew."""

    def table(match: re.Match[str]) -> str:
        name = match.group(1)
        kind, dash, shape = name.partition("-")
        file = RESULTS / f"{SOURCES.get(kind, kind)}{dash}{shape}.json"
        if not file.exists():
            return match.group()
        lines = TABLES[kind](json.loads(file.read_text(encoding="utf-8")))
        return "\n".join([f"<!-- results: {name} -->", *lines, "<!-- end -->"])

    return re.sub(r"<!-- results: ([\w.-]+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> int:
    outdated = False
    for document in DOCUMENTS:
        before = document.read_text(encoding="utf-8")
        after = render(before)
        outdated |= before != after
        if "--check" not in sys.argv[1:]:
            document.write_text(after, encoding="utf-8")
    return int(outdated and "--check" in sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
