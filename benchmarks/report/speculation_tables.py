"""Tables of speculative decoding, as lines of Markdown."""

from __future__ import annotations

from typing import Any

__all__ = ["draft_model", "row_costs", "speculation"]


def speculation(results: dict[str, Any]) -> list[str]:
    """Speed-up of every text by model, and what drafts cost where all of them fail."""
    models = results["models"]
    texts = list(dict.fromkeys(text for model in models.values() for text in model["texts"]))
    rows = [
        f"| {name} {model['format']} | "
        + " | ".join(f"{model['texts'][text]['speed_up']:.2f}" if text in model["texts"] else "" for text in texts)
        + f" | {_lost(model['texts'].get('hostile'))} |"
        for name, model in models.items()
    ]
    return [
        f"| {results['machine']['cpu']}, {results['machine']['cpus']} CPUs | {' | '.join(texts)} | "
        "hostile: runs with drafts against the steps around them |",
        "|---|" + "---|" * (len(texts) + 1),
        *rows,
    ]


def _lost(text: dict[str, Any] | None) -> str:
    if text is None or "lost_steps" not in text:
        return ""
    return f"{text['lost_steps'] / text['tokens']:+.1%} time"


def row_costs(results: dict[str, Any]) -> list[str]:
    """What a run over several rows takes beyond one over a single row."""
    rows = []
    for name, model in results["models"].items():
        for cell in model["cells"]:
            times = cell["milliseconds"]
            beyond = [f"{times[count] / times['1']:.2f}" for count in ("2", "4", "8", "17")]
            fitted = f"{model['run']:.2f} + {model['token']:.3f} k"
            label = f"{name.removesuffix('-' + model['format'])} {model['format']}"
            rows.append(f"| {label} | {cell['cached_tokens']} | {times['1']:.2f} | {' | '.join(beyond)} | {fitted} |")
    return [
        "| model | cached tokens | decode step, ms | 2 rows, in steps | 4 | 8 | 17 | k drafted tokens cost, in steps |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def draft_model(results: dict[str, Any]) -> list[str]:
    """Acceptance, and the speed-ups measured and computed."""
    rows = [
        f"| {mode} | {row['tokens']:,} | {row['acceptance']:.1%} | {row['measured_speed_up']:.2f} | "
        f"{row['computed_speed_up_125m_for_1.3b']:.2f} | {row['computed_by_formula']['speed_up']:.2f} "
        f"(k = {row['computed_by_formula']['drafted_tokens']}) |"
        for mode, row in results["modes"].items()
    ]
    sizes = results["weight_bytes"]
    pair = " for ".join(f"{name} ({sizes[name] / 1e6:.1f} MB)" for name in (results["draft"], results["model"]))
    return [
        f"| {pair} | tokens | acceptance | measured speed-up of this pair | computed, 125M for 1.3B: replayed | "
        "computed, by the formula |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
