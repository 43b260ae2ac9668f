"""Tables of neort next to other systems, as lines of Markdown: rates, shares of the limits, cold starts and memory."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from neort_models import preset

from ..harness.work import bytes_per_step, operations_of_prompt
from ..peers.catalog import OURS, in_order
from ..peers.numbers import NUMBERS
from .markdown import machine

__all__ = ["batches", "cold_start", "evaluation", "generate", "memory", "shares", "shares_of_limits", "single_rates"]

PREFILL, DECODE = 512, (32, 512, 1536)  # prompt lengths of the table's columns
COLUMNS = ((PREFILL, "prefill"), *((length, "decode") for length in DECODE))
BATCH_PROMPT, BATCHES = 32, (1, 4, 8)
Size = tuple[int, int]  # tokens of each prompt, sequences
Rates = dict[str, float]  # "prefill", "decode"


def by_system(
    results: dict[str, Any], value: Callable[[dict[str, Any], dict[str, Any], str], Rates]
) -> dict[str, dict[Size, Rates]]:
    """``value(pair, cell, system)`` of every system and cell; neort's are medians over its pairs."""
    ours: dict[str, dict[Size, list[Rates]]] = defaultdict(lambda: defaultdict(list))
    peers: dict[str, dict[Size, Rates]] = {}
    for peer, pair in results["pairs"].items():
        for cell in pair.get("cells", ()):
            size = cell["prompt_tokens"], cell["batch"]
            for name in pair["compared_with"]:
                ours[name][size].append(value(pair, cell, name))
            peers.setdefault(peer, {})[size] = value(pair, cell, peer)
    own = {
        name: {size: {key: statistics.median(c[key] for c in cells) for key in cells[0]} for size, cells in row.items()}
        for name, row in ours.items()
    }
    return in_order(own | peers)


def all_rates(results: dict[str, Any]) -> dict[str, dict[Size, Rates]]:
    """Tokens per second of every system."""
    return by_system(results, lambda pair, cell, name: rates(cell, name))


def single_rates(results: dict[str, Any]) -> dict[str, dict[int, Rates]]:
    """Tokens per second of every system by prompt length, one sequence."""
    return {
        name: {length: row for (length, batch), row in cells.items() if batch == 1}
        for name, cells in all_rates(results).items()
    }


def all_shares(results: dict[str, Any]) -> dict[str, dict[Size, Rates]]:
    """Every system's share of the limits that were measured in turns with it."""
    config = preset(results["shape"]).config()
    return by_system(results, lambda pair, cell, name: shares_of_limits(config, pair, cell, name))


def shares_of_limits(config: dict[str, Any], pair: dict[str, Any], cell: dict[str, Any], name: str) -> Rates:
    """Prefill's operations against what the CPUs multiply, a step's bytes against what they read, per second.

    A step in the middle of the generation counts. bf16 products have no measured limit, hence no "prefill".
    """
    kept, rate, limits = NUMBERS[name], rates(cell, name), cell["limits"]
    prompt, batch = cell["prompt_tokens"], cell["batch"]
    read = bytes_per_step(config, kept, prompt + pair["new_tokens"] // 2, batch)
    found = {"decode": read * rate["decode"] / batch / limits["read_bytes_per_second"]}
    if limit := limits.get(f"{kept.products}_operations_per_second"):
        found["prefill"] = operations_of_prompt(config, prompt, batch) * rate["prefill"] / (batch * prompt) / limit
    return found


def generate(results: dict[str, Any]) -> list[str]:
    """Every system's rates, and those of neort's formats against it within the same run."""
    systems = single_rates(results)
    pairs = results["pairs"]
    rows = [
        f"| {label(name)} | {' | '.join(numbers(row))} | {ratios(pairs[name], name) if name in pairs else ''} |"
        for name, row in systems.items()
    ]
    return [
        f"| {results['shape']}, {machine(results)}; tokens/s | prefill {PREFILL} | "
        + " | ".join(f"decode @{length}" for length in DECODE)
        + " | neort / it, column by column |",
        "|---|---|" + "---|" * (len(DECODE) + 1),
        *rows,
        *not_run(results, len(DECODE) + 1),
    ]


def shares(results: dict[str, Any]) -> list[str]:
    """How much of the machine's arithmetic a prompt uses, and how much of its bandwidth a decode step."""
    rows = [
        f"| {label(name)} | " + " | ".join(percent(cells.get((n, 1), {}).get(kind)) for n, kind in COLUMNS) + " |"
        for name, cells in all_shares(results).items()
    ]
    return [
        f"| {results['shape']}, {machine(results)} | prefill {PREFILL}: of the arithmetic | "
        + " | ".join(f"decode @{length}: of the bandwidth" for length in DECODE)
        + " |",
        "|---|---|" + "---|" * len(DECODE),
        *rows,
        "",
        limits_line(results),
    ]


def batches(results: dict[str, Any]) -> list[str]:
    """Decode rates of several sequences at once, all together."""
    first, *_, last = BATCHES
    rows = []
    for name, cells in all_rates(results).items():
        found = {batch: cells[BATCH_PROMPT, batch]["decode"] for batch in BATCHES if (BATCH_PROMPT, batch) in cells}
        if first in found and len(found) > 1:
            gain = f"{found[last] / found[first]:.1f}" if last in found else ""
            figures = " | ".join(f"{found[batch]:.1f}" if batch in found else "" for batch in BATCHES)
            rows.append(f"| {label(name)} | {figures} | {gain} |")
    return [
        f"| {results['shape']}, {machine(results)}; decode @{BATCH_PROMPT}, tokens/s | "
        + " | ".join("1 sequence" if batch == 1 else f"{batch} sequences" for batch in BATCHES)
        + f" | {last} over {first} |",
        "|---|" + "---|" * (len(BATCHES) + 1),
        *rows,
    ]


def cold_start(results: dict[str, Any]) -> list[str]:
    """Seconds from nothing to the first token."""
    imports = results["imports"]
    rows = [
        f"| {label(name)} | not run: {row['stopped']} | | |"
        if "stopped" in row
        else f"| {label(name)} | {row['ready_seconds']:.2f} | {row['first_token_seconds']:.2f} | "
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
        f"| {label(name)} | not run: {row['stopped']} | | | | |"
        if "stopped" in row
        else f"| {label(name)} | {gigabytes(row['weight_bytes'])} | {gigabytes(row['loaded']['rss'])} | "
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


def not_run(results: dict[str, Any], columns: int) -> list[str]:
    """Rows of the systems that stopped, before any cell or after some."""
    return [
        f"| {peer} | {'stopped' if pair.get('cells') else 'not run'}: {pair['stopped']} |" + " |" * columns
        for peer, pair in results["pairs"].items()
        if "stopped" in pair
    ]


def limits_line(results: dict[str, Any]) -> str:
    """The limits, as medians of all cells."""
    cells = [cell["limits"] for pair in results["pairs"].values() for cell in pair.get("cells", ())]
    read, int8, fp32 = (
        statistics.median(cell[f"{kind}_per_second"] for cell in cells)
        for kind in ("read_bytes", "int8_operations", "fp32_operations")
    )
    return (
        f"The limits: {read / 1e9:.0f} GB/s read, {int8 / 1e9:.0f} billion int8 and {fp32 / 1e9:.0f} billion fp32 "
        f"operations per second."
    )


def rates(cell: dict[str, Any], name: str) -> Rates:
    return {kind: cell["medians"][name][f"{kind}_tokens_per_second"] for kind in ("prefill", "decode")}


def numbers(row: dict[int, Rates]) -> list[str]:
    """The columns of one system; empty where a length was not measured."""
    decode = [f"{row[length]['decode']:.1f}" if length in row else "" for length in DECODE]
    return [f"{row[PREFILL]['prefill']:.0f}" if PREFILL in row else "", *decode]


def ratios(pair: dict[str, Any], peer: str) -> str:
    """The rates of neort's formats as multiples of the peer's, in the columns' order."""
    cells = {cell["prompt_tokens"]: cell for cell in pair["cells"] if cell["batch"] == 1}
    wanted = [(length, kind) for length, kind in COLUMNS if length in cells]
    return "; ".join(
        f"{name.removeprefix('neort ')}: "
        + ", ".join(f"{rates(cells[n], name)[kind] / rates(cells[n], peer)[kind]:.2f}" for n, kind in wanted)
        for name in pair["compared_with"]
    )


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f}"


def label(name: str) -> str:
    return f"**{name}**" if name in OURS else name


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def evaluation(results: dict[str, Any]) -> list[str]:
    """Items per second that lm-evaluation-harness scores: each system's median round, and its rate over hf's."""
    seconds = {name: statistics.median(row["seconds"]) for name, row in results["systems"].items()}
    rows = [
        f"| {label} | {results['items'] / seconds[name]:.2f} | {seconds['hf'] / seconds[name]:.1f} |"
        for name, label in (
            ("hf", f"`hf`, torch, float32, batch size {results['hf_batch_size']}"),
            ("neort", f"`neort`, {results['bundle']}"),
        )
    ]
    return [
        f"| {results['checkpoint']}, {results['items']} items, {results['threads']} threads, "
        f"{results['machine']['cpu']} | items per second | times `hf` |",
        "|---|---|---|",
        *rows,
    ]
