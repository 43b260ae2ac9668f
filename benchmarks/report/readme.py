"""Writes the tables of the README and of docs/ from the files in results/.

    python -m benchmarks.report.readme [--check]

A table stands between `<!-- results: NAME -->` and `<!-- end -->`, where NAME is that of a file in results/; of a name
like `generate-gpt-neo-1.3b`, `generate` says which table; `shares` and `batches` show the file of `generate`,
`short_prompts` that of `stall`, and `costs`,
`saturation` and `assumptions` that of `capacity`. Where the file is missing, the document stays as it is.
With --check nothing is written, and the exit status is 1 when a table is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..harness.arguments import script_parser
from ..harness.files import ROOT, write_whole
from ..harness.results import read_results
from . import (
    engine_tables,
    exporter_tables,
    format_tables,
    installation_tables,
    peer_tables,
    process_tables,
    scaling_tables,
    serving_tables,
    speculation_tables,
    text_tables,
    training_tables,
)

NAMES = (
    "applications.md",
    "benchmarks.md",
    "browser.md",
    "engine.md",
    "evaluation.md",
    "formats.md",
    "installation.md",
    "processes.md",
    "quantization.md",
    "ray-data.md",
    "scaling.md",
    "speculation.md",
    "training.md",
    "verification.md",
)
DOCUMENTS = (ROOT / "README.md", *(ROOT / "docs" / name for name in NAMES))

TABLES: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "quality": format_tables.quality,
    "perplexity": format_tables.perplexity,
    "evaluation": peer_tables.evaluation,
    "frozen": installation_tables.frozen,
    "installed": installation_tables.installed,
    "wheels": installation_tables.wheels,
    "refinements": format_tables.refinements,
    "block_refinements": format_tables.refinements,
    "exports": exporter_tables.exports,
    "grades": exporter_tables.grades,
    "speed": format_tables.speed,
    "cpus": engine_tables.cpus,
    "browser": engine_tables.browser,
    "speculation": speculation_tables.speculation,
    "row_costs": speculation_tables.row_costs,
    "draft_model": speculation_tables.draft_model,
    "generate": peer_tables.generate,
    "shares": peer_tables.shares,
    "batches": peer_tables.batches,
    "cold_start": peer_tables.cold_start,
    "memory": peer_tables.memory,
    "profile": engine_tables.profile,
    "kv_cache": engine_tables.kv_cache,
    "block_sizes": format_tables.block_sizes,
    "far_channels": format_tables.far_channels,
    "threads": engine_tables.threads,
    "sampling": engine_tables.sampling,
    "serving": serving_tables.serving,
    "soak": serving_tables.soak,
    "judge": serving_tables.judge,
    "stall": engine_tables.stall,
    "short_prompts": engine_tables.short_prompts,
    "training": training_tables.training,
    "processes": process_tables.processes,
    "processes_memory": process_tables.processes_memory,
    "dispatch": process_tables.dispatch,
    "repeats": text_tables.repeats,
    "texts": text_tables.texts,
    "proxies": scaling_tables.proxies,
    "ray_data": scaling_tables.ray_data,
    "costs": scaling_tables.costs,
    "saturation": scaling_tables.saturation,
    "assumptions": scaling_tables.assumptions,
}
SOURCES = {
    "shares": "generate",
    "batches": "generate",
    "short_prompts": "stall",
    "texts": "repeats",
    "processes_memory": "processes",
    "costs": "capacity",
    "saturation": "capacity",
    "assumptions": "capacity",
}  # whose results a table shows, where its name does not say it


def render(text: str) -> str:
    """A document with every table made anew."""

    def table(match: re.Match[str]) -> str:
        name = match.group(1)
        kind, dash, shape = name.partition("-")
        results = read_results(f"{SOURCES.get(kind, kind)}{dash}{shape}")
        if results is None:
            return match.group()
        return "\n".join([f"<!-- results: {name} -->", *TABLES[kind](results), "<!-- end -->"])

    return re.sub(r"<!-- results: ([\w.-]+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> int:
    parser = script_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a table is out of date")
    check: bool = parser.parse_args().check
    outdated = False
    for document in DOCUMENTS:
        before = document.read_text(encoding="utf-8")
        after = render(before)
        outdated |= before != after
        if not check:
            write_whole(document, after)
    return int(outdated and check)


if __name__ == "__main__":
    raise SystemExit(main())
