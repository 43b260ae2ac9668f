"""Tables of neort alone, as lines of Markdown: times, caches, blocks, threads and channels far from zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from profile_nodes import BETWEEN
from tables import machine

__all__ = ["block_sizes", "far_channels", "kv_cache", "profile", "threads"]

PROFILED = ("decode @32", "decode @1536", "prefill 256 @256")
LEAST = 1.0  # milliseconds in one of the runs, for a kind of node to have a row


def profile(results: dict[str, Any]) -> list[str]:
    """Milliseconds of each kind of node, in every bundle that was profiled, for some kinds of run."""
    labels, bundles = list(results["bundles"]), list(results["bundles"].values())
    runs = [name for name in bundles[0]["runs"] if name in PROFILED]
    kinds = [kind for kind in bundles[-1]["runs"][runs[0]]["nodes"] if kind != BETWEEN]
    kinds += [kind for kind in bundles[0]["runs"][runs[0]]["nodes"] if kind not in (*kinds, BETWEEN)]
    shown = [kind for kind in kinds if any(_milliseconds(b, run, kind) >= LEAST for b in bundles for run in runs)]

    def count(nodes: dict[str, Any]) -> int:
        return sum(node["count"] for kind, node in nodes.items() if kind != BETWEEN)

    def row(name: str, value: Callable[[dict[str, Any], str], float]) -> str:
        return f"| {name} | " + " | ".join(f"{value(b, run):.1f}" for run in runs for b in bundles) + " |"

    return [
        f"| {results['name']}, {machine(results)}; ms | "
        + " | ".join(f"{run}, {label}" if len(labels) > 1 else run for run in runs for label in labels)
        + " |",
        "|---|" + "---|" * (len(runs) * len(labels)),
        *(row(kind, lambda b, run, kind=kind: _milliseconds(b, run, kind)) for kind in shown),
        row("other nodes", lambda b, run: sum(_milliseconds(b, run, k) for k in kinds if k not in shown)),
        row(BETWEEN, lambda b, run: _milliseconds(b, run, BETWEEN)),
        row("**all**", lambda b, run: b["runs"][run]["milliseconds"]),
        row("products at the machine's limit", lambda b, run: b["runs"][run]["limit_milliseconds"]),
        "| nodes | " + " | ".join(str(count(b["runs"][run]["nodes"])) for run in runs for b in bundles) + " |",
    ]


def kv_cache(results: dict[str, Any]) -> list[str]:
    """Times with either cache."""
    fp32, int8 = (results["bytes_per_position"][kind] / 1000 for kind in ("fp32", "int8"))
    return [
        f"| {results['bundle']}, {machine(results)}; ms | fp32 cache | int8 cache | fp32 / int8 |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['milliseconds']['fp32']:.1f} | {row['milliseconds']['int8']:.1f} | "
            f"{row['fp32_over_int8']:.2f} |"
            for name, row in results["runs"].items()
        ),
        f"| kB per position of a sequence | {fp32:.1f} | {int8:.1f} | {fp32 / int8:.2f} |",
    ]


def block_sizes(results: dict[str, Any]) -> list[str]:
    """Products by the length of blocks: time, rate of reading for one row and two, and whether a row keeps its bits."""
    counts = list(results["formats"][0]["microseconds"])

    def row(facts: dict[str, Any]) -> str:
        name = f"{facts['bits']} bit, " + (f"blocks of {facts['block_size']}" if facts["block_size"] else "by channel")
        times = [facts["microseconds"][count] for count in counts]
        read = [f"{facts['weight_bytes'] / time / 1e3:.0f}" for time in times[:2]]
        bits = [f"{value:.0e}" if value else "0" for value in facts["row_difference"].values()]
        return f"| {name} | " + " | ".join([*(f"{time:.0f}" for time in times), *read, *bits]) + " |"

    shape = f"[rows, {results['inner']}] x [{results['inner']}, {results['columns']}]"
    return [
        f"| {shape}, {machine(results)}; us | "
        + " | ".join(f"{count} row" + ("s" if count != "1" else "") for count in counts)
        + " | GB/s, 1 row | 2 rows | a row among even numbers | among odd |",
        "|---|" + "---|" * (len(counts) + 4),
        *map(row, results["formats"]),
    ]


def far_channels(results: dict[str, Any]) -> list[str]:
    """Mean KL and the error of logits of each format by the mean of some channels."""
    means = results["channels"]

    def cell(facts: dict[str, Any]) -> str:
        return f"{facts['mean_kl']:.1e}, {facts['relative_error']:.1%}"

    return [
        f"| {results['checkpoint']}, {results['tokens']:,} tokens: mean KL, error of logits | "
        + " | ".join(means)
        + " |",
        "|---|" + "---|" * len(means),
        *(
            f"| {name} | " + " | ".join(cell(formats[name]) for formats in means.values()) + " |"
            for name in next(iter(means.values()))
        ),
    ]


def threads(results: dict[str, Any]) -> list[str]:
    """Largest differences of logits with no more threads than heads, with more, and with a dummy."""
    heads = results["num_heads"]
    counts = sorted(int(count) for count in results["rows"][0]["neort"])
    few, many = ([count for count in counts if (count <= heads) is fits] for fits in (True, False))

    def largest(by_count: dict[str, dict[str, float]], among: list[int], *kinds: str) -> str:
        value = max(by_count[str(count)][kind] for count in among for kind in kinds)
        return f"{value:.0e}" if value else "0"

    both = ("batch", "one_thread")
    rows = [
        f"| {row['format']}, {row['kv_cache']} cache | "
        + " | ".join([largest(row["onnxruntime"], few, *both), *(largest(row["onnxruntime"], many, k) for k in both)])
        + f" | {largest(row['neort'], counts, *both)} |"
        for row in results["rows"]
    ]
    return [
        f"| {heads} heads; largest difference of a step's logits | without a dummy: {few[0]} to {few[-1]} threads | "
        f"{many[0]} to {many[-1]} threads, alone against in a batch | {many[0]} to {many[-1]} threads against one | "
        f"with a dummy: {counts[0]} to {counts[-1]} threads |",
        "|---|---|---|---|---|",
        *rows,
    ]


def _milliseconds(bundle: dict[str, Any], run: str, kind: str) -> float:
    return float(bundle["runs"][run]["nodes"].get(kind, {"milliseconds": 0.0})["milliseconds"])
