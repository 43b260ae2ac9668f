"""Tables of the formats, as lines of Markdown: quality, rates, refinements, blocks and channels far from zero."""

from __future__ import annotations

from typing import Any

from .markdown import machine

__all__ = ["block_sizes", "far_channels", "perplexity", "quality", "refinements", "speed"]


def quality(results: dict[str, Any]) -> list[str]:
    """How far each format is from torch."""
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


def perplexity(results: dict[str, Any]) -> list[str]:
    """What each format foretells, beside torch."""
    systems = results["systems"]
    first = systems["torch"]
    rows = [
        f"| {name} | {row['token']:.4f} | {row['word'] / first['word'] - 1:+.1e} | {row['byte']:.5f} | "
        f"{row['bits_per_byte']:.6f} |"
        for name, row in systems.items()
    ]
    return [
        f"| {results['checkpoint']}, {results['text']}: {first['tokens']:,} tokens, {first['words']:,} words, "
        f"{first['bytes']:,} bytes | token perplexity | word perplexity, from torch's | byte perplexity | "
        "bits per byte |",
        "|---|---|---|---|---|",
        *rows,
    ]


def speed(results: dict[str, Any]) -> list[str]:
    """Size and rates of each format."""
    rows = [
        f"| {name} | {row['weight_bytes'] / 1e9:.2f} | {row['prefill_tokens_per_second']:.0f} | "
        f"{row['decode_tokens_per_second']:.1f} |"
        for name, row in results["formats"].items()
    ]
    return [
        f"| {results['checkpoint']}, {results['threads']} threads, {results['machine']['cpu']} | weights, GB | "
        f"prefill of {results['prompt_tokens']}, tokens/s | decode after it, tokens/s |",
        "|---|---|---|---|",
        *rows,
    ]


def refinements(results: dict[str, Any]) -> list[str]:
    """Mean KL and perplexity ratio of each variant on each checkpoint."""
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
