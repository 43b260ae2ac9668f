"""Tables of neort next to other systems, as lines of Markdown: rates, cold starts and memory."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from systems.catalog import OURS, in_order

__all__ = ["cold_start", "generate", "memory", "single_rates"]

PREFILL, DECODE = 512, (32, 512, 1536)  # prompt lengths of the table's columns
Rates = dict[str, float]  # "prefill", "decode"


def single_rates(results: dict[str, Any]) -> dict[str, dict[int, Rates]]:
    """Tokens per second of every system by prompt length, one sequence; neort's are medians over its pairs."""
    ours: dict[str, dict[int, list[Rates]]] = defaultdict(lambda: defaultdict(list))
    peers: dict[str, dict[int, Rates]] = {}
    for peer, pair in results["pairs"].items():
        for cell in single_cells(pair):
            ours[pair["compared_with"]][cell["prompt_tokens"]].append(rates(cell, pair["compared_with"]))
            peers.setdefault(peer, {})[cell["prompt_tokens"]] = rates(cell, peer)
    own = {
        name: {
            length: {key: statistics.median(c[key] for c in cells) for key in cells[0]} for length, cells in row.items()
        }
        for name, row in ours.items()
    }
    return in_order(own | peers)


def generate(results: dict[str, Any]) -> list[str]:
    """Every system's rates, and neort's against it within the same run."""
    systems = single_rates(results)
    own = [
        f"| **{name}** | {' | '.join(numbers(row))} | |"
        for name, row in systems.items()
        if name in OURS and name not in results["pairs"]
    ]
    peers = [
        f"| {peer} | {' | '.join(numbers(systems[peer]))} | {ratios(pair, peer)} |"
        if peer in systems
        else f"| {peer} | not run: {pair['stopped']} | | | | |"
        for peer, pair in results["pairs"].items()
    ]
    return [
        f"| {results['shape']}, {machine(results)}; tokens/s | prefill {PREFILL} | "
        + " | ".join(f"decode @{length}" for length in DECODE)
        + " | neort / it: prefill, decode |",
        "|---|---|" + "---|" * (len(DECODE) + 1),
        *own,
        *peers,
    ]


def cold_start(results: dict[str, Any]) -> list[str]:
    """Seconds from nothing to the first token."""
    imports = results["imports"]
    rows = [
        f"| {name} | not run: {row['stopped']} | | |"
        if "stopped" in row
        else f"| {name} | {row['ready_seconds']:.2f} | {row['first_token_seconds']:.2f} | "
        f"{row['ready_seconds'] + row['first_token_seconds']:.2f} |"
        for name, row in results["systems"].items()
    ]
    return [
        f"| {results['shape']}, {machine(results)}; seconds | process start to loaded | first token | both |",
        "|---|---|---|---|",
        *rows,
        "",
        f"`import neort` takes {imports['neort_seconds_beyond_numpy']:.2f} s beyond numpy's "
        f"{imports['numpy_seconds']:.2f} s.",
    ]


def memory(results: dict[str, Any]) -> list[str]:
    """Memory of one process of each system, and of several processes of neort."""
    rows = [
        f"| {name} | not run: {row['stopped']} | | | | |"
        if "stopped" in row
        else f"| {name} | {gigabytes(row['weight_bytes'])} | {gigabytes(row['loaded']['rss'])} | "
        f"{gigabytes(row['generated']['rss'])} | {gigabytes(row['generated']['anonymous'])} | "
        f"{gigabytes(row['generated']['peak_rss'])} |"
        for name, row in results["systems"].items()
    ]
    shared = [
        f"{row['processes']} processes of {name} take {gigabytes(row['generated']['pss'])} GB together"
        for name, row in results["together"].items()
    ]
    return [
        f"| {results['shape']}, {machine(results)}; GB | files | loaded | after generating | of that its own | peak |",
        "|---|---|---|---|---|---|",
        *rows,
        *(["", "; ".join(shared) + " (shared pages counted once)."] if shared else []),
    ]


def single_cells(pair: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in pair.get("cells", ()) if cell["batch"] == 1]


def rates(cell: dict[str, Any], name: str) -> Rates:
    return {kind: cell["medians"][name][f"{kind}_tokens_per_second"] for kind in ("prefill", "decode")}


def numbers(row: dict[int, Rates]) -> list[str]:
    """The columns of one system; empty where a length was not measured."""
    decode = [f"{row[length]['decode']:.1f}" if length in row else "" for length in DECODE]
    return [f"{row[PREFILL]['prefill']:.0f}" if PREFILL in row else "", *decode]


def ratios(pair: dict[str, Any], peer: str) -> str:
    """neort's rates as multiples of the peer's, in the columns' order."""
    cells = {cell["prompt_tokens"]: cell for cell in single_cells(pair)}
    wanted = [(PREFILL, "prefill"), *((length, "decode") for length in DECODE)]
    return ", ".join(
        f"{rates(cells[length], pair['compared_with'])[kind] / rates(cells[length], peer)[kind]:.2f}"
        for length, kind in wanted
        if length in cells
    )


def machine(results: dict[str, Any]) -> str:
    return f"{results['machine']['cpu']}, {results['machine']['cpus']} CPUs"


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f}"
