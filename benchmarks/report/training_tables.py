"""What training runs came to."""

from __future__ import annotations

from typing import Any

__all__ = ["training"]


def training(results: dict[str, Any]) -> list[str]:
    """Each model's size, its run, and how well it predicts text that it has and has not read."""
    rows = [
        f"| {name} | {facts['parameters'] / 1e6:.2f} M | {facts['tokens'] / 1e6:,.0f} M | {facts['epochs']:.0f} | "
        f"{facts['seconds']:.0f} | {facts['tokens_per_second'] / 1e6:.2f} M | "
        f"{facts['nats_per_token_of_read_text']:.3f} | {facts['nats_per_token']:.3f} | {facts['bits_per_byte']:.3f} |"
        for name, facts in results["models"].items()
    ]
    return [
        f"| one {results['machine']['gpu']} | parameters | tokens | epochs | seconds | tokens per second | "
        "nats per token, of text it read | of other books | bits per byte of these |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]
