"""Draws results/*.json as SVG: rates of all systems, their memory, a stream's stalls, and servers under load.

Needs matplotlib: pip install -e ".[bench]".

    python -m benchmarks.report.plots

For every shape that was measured: results/decode-SHAPE.svg, prefill-SHAPE.svg, memory-SHAPE.svg, stall-NAME.svg and
serving-SHAPE.svg; besides results/training.svg. The same results make the same files, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from neort.files import published_file

from ..harness.arguments import script_parser
from ..harness.files import RESULTS
from ..harness.results import read_results
from ..peers.catalog import OURS
from .peer_tables import single_rates

OWN, OTHER = "#1f6f8b", "#b9b4a7"
STYLE = {"svg.hashsalt": "neort", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
LABELS = {"prefill": "prompt tokens per second", "decode": "new tokens per second"}


def main() -> None:
    script_parser(__doc__).parse_args()
    with mpl.rc_context(STYLE):
        for results in measured("generate"):
            for kind in LABELS:
                save(rates(results, kind), f"{kind}-{results['shape']}")
        for results in measured("memory"):
            save(memory(results), f"memory-{results['shape']}")
        for results in measured("stall"):
            save(stall(results), f"stall-{results['bundle']}")
        for results in measured("serving"):
            save(serving(results), f"serving-{results['name']}")
        if (run := read_results("training")) is not None:
            save(training(run), "training")


def measured(question: str) -> Iterator[dict[str, Any]]:
    """The results of a question for every shape, in the order of their names."""
    for file in sorted(RESULTS.glob(f"{question}-*.json")):
        yield json.loads(file.read_text(encoding="utf-8"))


def rates(results: dict[str, Any], kind: str) -> Figure:
    """One panel for each prompt length: every system's rate with one sequence."""
    systems = single_rates(results)
    lengths = sorted({length for cells in systems.values() for length in cells})
    figure = Figure(figsize=(3.2 * len(lengths) + 1.8, 0.27 * len(systems) + 1.1), layout="constrained")
    panels = figure.subplots(1, len(lengths), sharey=True, squeeze=False)[0]
    names = list(systems)
    for panel, length in zip(panels, lengths, strict=True):
        values = [systems[name].get(length, {}).get(kind, 0.0) for name in names]
        bars(panel, names, values, "{:.0f}" if kind == "prefill" else "{:.1f}")
        panel.set_title(f"prompt of {length}" if kind == "prefill" else f"after {length} tokens", fontsize=9)
    figure.supxlabel(f"{LABELS[kind]}, {results['shape']}, {results['machine']['cpu']}", fontsize=9)
    return figure


def memory(results: dict[str, Any]) -> Figure:
    """Resident memory after generating: the process's own, and mapped files."""
    rows = {name: row["generated"] for name, row in results["systems"].items() if "generated" in row}
    names = list(rows)
    figure = Figure(figsize=(6.5, 0.27 * len(names) + 1.1), layout="constrained")
    panel = figure.subplots()
    own, files = ([row[key] / 1e9 for row in rows.values()] for key in ("anonymous", "file"))
    bars(panel, names, own, "")
    panel.barh(names, files, left=own, color=[color(name) for name in names], alpha=0.45, height=0.72)
    for name, a, b in zip(names, own, files, strict=True):
        panel.annotate(f"{a + b:.2f}", (a + b, name), xytext=(3, 0), textcoords="offset points", va="center")
    figure.supxlabel(f"resident memory, GB: own (dark) and mapped files (light), {results['shape']}", fontsize=9)
    return figure


def training(results: dict[str, Any]) -> Figure:
    """Bits per byte of text that was not read, over the tokens that were: a line for each model."""
    figure = Figure(figsize=(6.5, 3.2), layout="constrained")
    panel = figure.subplots()
    lines = {"neo-books-first": ("--", OWN), "neo-books-teacher": ("--", OTHER), "neo-books": ("-", OWN)}
    for name, facts in results["models"].items():
        line, shade = lines.get(name, ("-", OTHER))
        tokens, bits = ([row[key] for row in facts["curve"]] for key in ("tokens", "held_out_bits_per_byte"))
        panel.plot([count / 1e6 for count in tokens], bits, line, color=shade, label=f"{name}: {bits[-1]:.3f}")
    panel.legend(frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_ylabel("bits per byte")
    figure.supxlabel(f"million tokens read, on one {results['machine']['gpu']}", fontsize=9)
    return figure


def stall(results: dict[str, Any]) -> Figure:
    """How long a stream stops while a long prompt arrives, and how long that one waits, for every way to read it."""
    ways = results["arrival_milliseconds"]
    figure = Figure(figsize=(7.5, 0.27 * len(ways) + 1.1), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, key, title in (
        (panels[0], "largest_gap", "longest stop of the stream, ms"),
        (panels[1], "time_to_first_token", "the prompt's first token after, ms"),
    ):
        drawn = panel.barh(list(ways), [way[key] for way in ways.values()], height=0.72,
                           color=[OTHER if name == "whole" else OWN for name in ways])  # fmt: skip
        panel.bar_label(drawn, fmt="{:,.0f}", padding=3)
        panel.set_title(title, fontsize=9)
        panel.margins(x=0.18)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(length=0)
    panels[0].invert_yaxis()
    figure.supxlabel(f"a prompt of {results['prompt']} tokens, {results['machine']['cpu']}", fontsize=9)
    return figure


def serving(results: dict[str, Any]) -> Figure:
    """Tokens per second, the time to the first token and that between tokens, over the number of clients."""
    figure = Figure(figsize=(9.6, 2.8), layout="constrained")
    panels = figure.subplots(1, 3)
    values: list[tuple[str, Callable[[dict[str, Any]], float]]] = [
        ("tokens per second", lambda cell: float(cell["tokens_per_second"])),
        ("time to the first token, p95, s", lambda cell: float(cell["ttft_milliseconds"]["p95"] / 1000)),
        ("time per token, p95, ms", lambda cell: float(cell["tpot_milliseconds"]["p95"])),
    ]
    for panel, (title, value) in zip(panels, values, strict=True):
        for (name, cells), marker in zip(results["medians"].items(), "osv", strict=False):
            line = OWN if name.startswith("neort") else OTHER
            panel.plot([int(count) for count in cells], [value(cell) for cell in cells.values()], f"{marker}-",
                       color=line, label=name)  # fmt: skip
        panel.set_xscale("log", base=2)
        panel.set_xticks(ticks := [int(count) for count in cells], [str(tick) for tick in ticks])
        panel.set_ylim(bottom=0)
        panel.set_title(title, fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    figure.supxlabel(f"clients, {results['name']}, {results['machine']['cpu']}", fontsize=9)
    return figure


def bars(panel: Any, names: list[str], values: list[float], label: str) -> None:
    """Horizontal bars from the top down, neort's in their own colour."""
    drawn = panel.barh(names, values, color=[color(name) for name in names], height=0.72)
    if label:
        panel.bar_label(drawn, [label.format(value) if value else "" for value in values], padding=3)
    if not panel.yaxis_inverted():
        panel.invert_yaxis()
    panel.margins(x=0.18)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(length=0)


def color(name: str) -> str:
    return OWN if name in OURS else OTHER


def save(figure: Figure, name: str) -> Path:
    file = RESULTS / f"{name}.svg"
    with published_file(file) as stream:
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    print(f"wrote {file}")
    return file


if __name__ == "__main__":
    main()
