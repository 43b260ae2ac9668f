"""Tables of the runtime alone, as lines of Markdown: profiles, caches, threads, other CPUs, pages and installations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..engine.profile_nodes import BETWEEN
from .markdown import machine

__all__ = ["browser", "cpus", "kv_cache", "profile", "sampling", "short_prompts", "stall", "threads"]

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
        *(row(kind, functools.partial(_milliseconds, kind=kind)) for kind in shown),
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


def sampling(results: dict[str, Any]) -> list[str]:
    """What choosing a token takes, and its share of a step of several sequences where steps were timed."""
    if not results["step_milliseconds"]:
        return [
            f"| {results['vocab_size']:,} logits after {results['length']} tokens, {machine(results)} | ms a token |",
            "|---|---|",
            *(f"| {name} | {milliseconds:.2f} |" for name, milliseconds in results["choice_milliseconds"].items()),
        ]
    several = max(results["step_milliseconds"], key=int)
    step = results["step_milliseconds"][several]
    choices, engine = results["choice_milliseconds"], results.get("engine_milliseconds", {})

    def row(name: str) -> str:
        whole = engine[name] if engine else int(several) * choices[name]
        return f"| {name} | {choices[name]:.2f} | {whole:.1f} | {100 * whole / (whole + step):.0f} % |"

    return [
        f"| {results['vocab_size']:,} logits after {results['length']} tokens, {machine(results)}; ms | a token | "
        f"{several} {'streams, all but the model' if engine else 'tokens'} | share of a step of {several} sequences, "
        f"{results['bundle']} ({step:.0f} ms) |",
        "|---|---|---|---|",
        *map(row, choices),
    ]


def stall(results: dict[str, Any]) -> list[str]:
    """How long a stream waits while a long prompt is read, and the prompt for its first token."""
    usual = results["arrival_milliseconds"]["whole"]["usual_gap"]
    return [
        f"| {results['bundle']}, {machine(results)}; a prompt of {results['prompt']:,} tokens arrives; ms | "
        "longest time between two tokens of the stream | 99th percentile | the prompt's time to its first token |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['largest_gap']:.0f} | {row['p99_gap']:.0f} | {row['time_to_first_token']:.0f} |"
            for name, row in results["arrival_milliseconds"].items()
        ),
        f"| no prompt | {usual:.0f} | | |",
    ]


def short_prompts(results: dict[str, Any]) -> list[str]:
    """What a run of several prompts saves."""
    return [
        f"| {results['bundle']}, {machine(results)}; prompts x tokens; ms | one by one | together | times as fast |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['one_by_one']:.0f} | {row['together']:.0f} | {row['one_by_one'] / row['together']:.2f} |"
            for name, row in results["short_prompts_milliseconds"].items()
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


def cpus(results: dict[str, Any]) -> list[str]:
    """How far the logits of other CPUs are."""
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


def browser(results: dict[str, Any]) -> list[str]:
    """What neort and a page do in a second, with one thread and with two."""
    lengths = list(results["prompts"])
    long = max(lengths, key=int)

    def row(name: str) -> str:
        rates = [results["prompts"][length][name] for length in lengths]
        text = " | ".join(f"{each['text_rate']:.0f}" for each in rates)
        prompt = results["prompts"][long][name]["prompt_rate"]
        return f"| {name} | {text} | {prompt:.0f} | {results['start_seconds'][name]:.1f} |"

    runs = f"{machine(results)}, {results['browser']}, onnxruntime-web {results['onnxruntime_web']}"
    return [
        f"| {results['bundle']}, {runs} | "
        + " | ".join(f"tokens/s after {length}" for length in lengths)
        + f" | tokens/s of a prompt of {long} | seconds to load |",
        "|---|" + "---|" * (len(lengths) + 2),
        *map(row, results["start_seconds"]),
    ]


def _milliseconds(bundle: dict[str, Any], run: str, kind: str) -> float:
    return float(bundle["runs"][run]["nodes"].get(kind, {"milliseconds": 0.0})["milliseconds"])
