"""What both commands measure: the options of text and limits, and the figures in words."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from neort.bundle import format_of
from neort.cli.arguments import named_path

from ..errors import ExportError
from ..quantization.limits import POOR, STRICT_LIMITS, Limits

if TYPE_CHECKING:
    from ..verification.agreement import Agreement
    from ..verification.figures import Verification

LONGEST_TEXT = 64 << 20  # characters, of which some thousand are measured on

__all__ = ["add_measures", "chosen_limits", "figures", "given_limits", "megabytes", "read_text"]


def add_measures(parser: argparse.ArgumentParser) -> None:
    """Options of the text that is measured on, and of the limits."""
    parser.add_argument(
        "--text", type=named_path, metavar="FILE", help="UTF-8 text to verify on, instead of the built-in one"
    )
    poor = f"without any, only a poor loss stops: perplexity {100 * (POOR - 1):.0f} % above torch's"
    limits = parser.add_argument_group("limits", poor)
    strict = (
        f"limits that a well trained small model keeps: mean KL of {STRICT_LIMITS['int8'].mean_kl:.0e} nats in int8"
    )
    limits.add_argument("--strict", action="store_true", help=strict)
    limits.add_argument("--max-abs-diff", type=_limit, metavar="X", help="limit of fp32 logits' difference to torch")
    limits.add_argument("--max-mean-kl", type=_limit, metavar="NATS", help="limit of the mean KL divergence to torch")
    limits.add_argument("--max-perplexity-ratio", type=_limit, metavar="R", help="limit of the perplexity over torch's")


def _limit(text: str) -> float:
    """A figure's limit. Raises ArgumentTypeError for one that is negative or no number."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text} is no limit; give a number of at least 0")
    return value


def chosen_limits(args: argparse.Namespace, quantization: str) -> Limits:
    """The limits that were given, over the format's strict ones or those that everyone has."""
    form = format_of(quantization)
    limits = STRICT_LIMITS[form.name] if form and args.strict else Limits()
    return dataclasses.replace(limits, **given_limits(args))


def given_limits(args: argparse.Namespace) -> dict[str, float]:
    """The limits that were given, by their names in `Limits`."""
    flags = {
        "max_abs_diff": args.max_abs_diff,
        "mean_kl": args.max_mean_kl,
        "perplexity_ratio": args.max_perplexity_ratio,
    }
    return {name: value for name, value in flags.items() if value is not None}


def read_text(file: Path) -> str:
    """A text to measure on. Raises ExportError for a file that is none."""
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(LONGEST_TEXT + 1)
    except (OSError, ValueError) as error:  # ValueError: NUL in the name, or no UTF-8
        raise ExportError(f"{file} cannot be read as UTF-8 text ({error}); give a plain text file") from error
    if len(text) > LONGEST_TEXT:
        raise ExportError(f"{file} has more than {LONGEST_TEXT:,} characters; give a shorter text, a few pages will do")
    return text


def figures(path: Path, measured: Verification) -> Iterator[str]:
    """What was measured, line by line."""
    from ..verification.grades import meaning
    from ..verification.structure import LIMIT

    yield f"{path}: {megabytes(path)} MB, verified on {measured.tokens:,} tokens"
    if measured.grade:
        yield f"  {measured.quantization}: {measured.grade} ({meaning(measured.grade)})"
    structure = measured.structure
    loss = f"; quantized, it loses at most {structure.largest_loss:.1%}" if structure.losses else ""
    yield f"  each layer against torch: {structure.largest:.2g} times torch's own rounding (limit {LIMIT:g}){loss}"
    if measured.fp32:
        yield f"  fp32 against torch: max abs logit difference {measured.fp32.max_abs_diff:.2g}"
    if measured.quantized:
        yield _quantized(measured.quantization, measured.quantized)
    if measured.int8_cache:
        yield _int8_cache(measured.int8_cache)
    yield f"  in a batch against alone: {measured.batch_difference:g}, in chunks: {measured.chunk_difference:.2g}"
    if not measured.prompts_together:
        yield (
            f"  prompts that share a run differ from each alone by up to {measured.prompts_difference:.2g}, which must "
            "be 0: neort will run them one by one. Please report that, with the release of onnxruntime and the "
            "processor"
        )


def _quantized(quantization: str, found: Agreement) -> str:
    return (
        f"  {quantization} against torch: mean KL {found.mean_kl:.2e}, p99 KL {found.p99_kl:.2e}, "
        f"top-1 agreement {found.top1_agreement:.2%}, "
        f"perplexity ratio {found.perplexity_ratio:.5f} +- {found.perplexity_ratio_error:.5f}"
    )


def _int8_cache(found: Agreement) -> str:
    from ..verification.grades import grade

    return (
        f"  with an int8 cache: {grade(found)}, mean KL {found.mean_kl:.2e}, "
        f"perplexity ratio {found.perplexity_ratio:.5f}"
    )


def megabytes(folder: Path) -> str:
    """The size of a folder's files."""
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:,.1f}"
