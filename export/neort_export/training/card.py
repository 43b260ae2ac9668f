"""What a run came to, and the README that tells it beside the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..markdown import code, front_matter
from .corpus import END_ID, END_OF_TEXT
from .evaluation import Quality
from .options import Options

__all__ = ["Result", "describe"]

LIMITS = """\
It has read {read}: it writes what resembles them, with whatever they hold of errors, prejudice
and offensive language, and what it states is true by chance only."""


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
    """Write the checkpoint's README, a model card: the data, the steps and the final figures."""
    names = ", ".join(code(path.name) for path in options.texts)
    header = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["gpt_neo"]}
    lines = [
        front_matter(header),
        f"# {code(options.output.name)}",
        f"A GPT-Neo of {result.parameters:,} parameters: {options.num_layers} layers (global and local in turn; "
        f"window {options.window}), hidden {options.hidden_size}, {options.num_heads} heads, "
        f"{options.context} positions; byte-level BPE with `{END_OF_TEXT}` = {END_ID}.",
        "",
        f"Trained by neort_export.training on {names} ({result.tokens:,} tokens): {len(result.losses):,} steps of "
        f"{options.batch_size} x {options.context} tokens, {_optimizer(options)}, "
        f"seed {options.seed}. Last training loss: {result.loss:.3f} nats per token.",
    ]
    if result.valid and options.valid:
        valid = code(options.valid.name)
        lines.append(f"On {valid}: {result.valid} (fp32, blocks of {options.context} tokens).")
    others = [code(folder.name) for folder in (options.init_from, options.teacher) if folder]
    read = f"these texts, and has what {' and '.join(others)} had read" if others else "these texts and nothing else"
    return "\n".join([*lines, "", "## Limitations and biases", "", LIMITS.format(read=read)]) + "\n"


def _optimizer(options: Options) -> str:
    """The optimizer with its rates; dropout and the checkpoints it began and learned with, where there are any."""
    parts = [f"AdamW, peak rate {options.learning_rate:g}"]
    if options.optimizer == "muon":
        parts.insert(0, f"Muon for the layers' matrices, peak rate {options.matrix_rate:g}")
    if options.dropout:
        parts.append(f"dropout {options.dropout:g}")
    if options.init_from:
        parts.append(f"beginning with the weights of {code(options.init_from.name)}")
    if options.teacher:
        parts.append(f"learning the predictions of {code(options.teacher.name)}")
    return ", ".join(parts)
