"""Writes the README's tables from the files in results/.

    python benchmarks/readme.py [--check]

A table stands between `<!-- results: NAME -->` and `<!-- end -->`. With --check nothing is written, and the exit status
is 1 when a table is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"


def quality(results: dict[str, Any]) -> list[str]:
    tokens = next(iter(results["formats"].values()))["tokens"]
    rows = [
        f"| {name} | {row['bytes'] / 1e6:.1f} | {row['max_abs_diff']:.1e} | {row['mean_kl']:.1e} | {row['p99_kl']:.1e} | "
        f"{row['top1_agreement']:.2%} | {row['perplexity_ratio']:.5f} |"
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
    return [
        f"`pip install .` brings {results['total_bytes'] / 1e6:.0f} MB in {len(packages)} packages (MB each): {listed}."
    ]


TABLES: dict[str, Callable[[dict[str, Any]], list[str]]] = {"quality": quality, "installed": installed}


def render(text: str) -> str:
    """The README with every table made anew."""

    def table(match: re.Match[str]) -> str:
        name = match.group(1)
        lines = TABLES[name](json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))
        return "\n".join([f"<!-- results: {name} -->", *lines, "<!-- end -->"])

    return re.sub(r"<!-- results: (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> int:
    before = README.read_text(encoding="utf-8")
    after = render(before)
    if "--check" in sys.argv[1:]:
        return int(before != after)
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
