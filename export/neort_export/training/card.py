"""What a run came to, and the README that tells it beside the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .corpus import END_ID, END_OF_TEXT
from .evaluation import Quality
from .options import Options

__all__ = ["Result", "describe"]


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    checkpoint: Path
    parameters: int
    tokens: int  # in the training texts
    losses: list[float]  # nats per token, one per step
    loss: float  # mean of the last steps
    tokens_per_second: float
    valid: Quality | None


def describe(options: Options, result: Result) -> str:
    """Write the checkpoint's README: the data, the steps and the final figures."""
    names = ", ".join(path.name for path in options.texts)
    lines = [
        f"# {options.output.name}",
        f"A GPT-Neo of {result.parameters:,} parameters: {options.num_layers} layers (global and local in turn; "
        f"window {options.window}), hidden {options.hidden_size}, {options.num_heads} heads, "
        f"{options.context} positions; byte-level BPE with `{END_OF_TEXT}` = {END_ID}.",
        "",
        f"Trained by neort_export.training on {names} ({result.tokens:,} tokens): {len(result.losses):,} steps of "
        f"{options.batch_size} x {options.context} tokens, AdamW, peak rate {options.learning_rate:g}, "
        f"seed {options.seed}. Last training loss: {result.loss:.3f} nats per token.",
    ]
    if result.valid and options.valid:
        lines.append(f"On {options.valid.name}: {result.valid} (fp32, blocks of {options.context} tokens).")
    return "\n".join(lines) + "\n"
