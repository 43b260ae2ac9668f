"""``neort-export CHECKPOINT -o BUNDLE`` and ``neort-export verify BUNDLE --against CHECKPOINT``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from neort.bundle import Bundle
from neort.errors import NeortError

from .errors import ExportError
from .formats import FORMATS, Quantization
from .memory import keep_heap_small
from .quantization.limits import STRICT_LIMITS, Limits

if TYPE_CHECKING:
    from .verification.figures import Verification

__all__ = ["main"]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments of an export; or, when the first one is ``verify``, of a verification."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["verify"]:
        return _parse_verify(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="neort-export",
        description="Export a GPT-Neo checkpoint to a bundle that neort runs without torch.",
        epilog="`neort-export verify BUNDLE --against CHECKPOINT` measures an existing bundle.",
    )
    parser.add_argument("checkpoint", help="folder with config.json and weights, or a Hugging Face hub name")
    parser.add_argument("-o", "--output", required=True, metavar="BUNDLE", type=Path, help="folder to create")
    parser.add_argument("--quantization", choices=list(FORMATS), default="int8", help="default: int8")
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")
    parser.add_argument("--no-verify", action="store_true", help="do not compare with torch; the manifest says so")
    _add_measures(parser)
    parser.set_defaults(run=run_export)
    args = parser.parse_args(arguments)
    if args.no_verify and (args.text or args.strict or _given_limits(args)):
        parser.error("--no-verify measures nothing: leave out --text, --strict and the limits, or verify")
    return args


def _parse_verify(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="neort-export verify",
        description="Measure a bundle against torch and write its verification.json anew.",
        epilog="Without torch, `neort verify BUNDLE` checks hashes, golden logits and identity in batches and chunks.",
    )
    parser.add_argument("bundle", type=Path, help="folder that neort-export wrote")
    parser.add_argument("--against", required=True, metavar="CHECKPOINT", help="what the bundle was made of")
    _add_measures(parser)
    parser.set_defaults(run=run_verify)
    return parser.parse_args(arguments)


def _add_measures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="UTF-8 text to verify on, instead of the built-in one"
    )
    limits = parser.add_argument_group("limits", "without any, only a poor loss stops: perplexity 5 % above torch's")
    limits.add_argument(
        "--strict",
        action="store_true",
        help="limits that a well trained small model keeps: mean KL of 6e-4 nats in int8",
    )
    limits.add_argument("--max-abs-diff", type=_limit, metavar="X", help="limit of fp32 logits' difference to torch")
    limits.add_argument("--max-mean-kl", type=_limit, metavar="NATS", help="limit of the mean KL divergence to torch")
    limits.add_argument("--max-perplexity-ratio", type=_limit, metavar="R", help="limit of the perplexity over torch's")


def _limit(text: str) -> float:
    """A figure's limit. Raises ArgumentTypeError for one that is negative or no number."""
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text} is no limit; give a number of at least 0")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 for an error (one sentence on stderr), 130 for Ctrl-C."""
    args = parse_args(argv)
    keep_heap_small()
    try:
        args.run(args)
    except NeortError as error:
        print(f"neort-export: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nneort-export: interrupted; no bundle was written", file=sys.stderr)
        return 130
    return 0


def run_export(args: argparse.Namespace) -> None:
    from . import export

    report = export(
        args.checkpoint,
        args.output,
        quantization=args.quantization,
        force=args.force,
        verify=not args.no_verify,
        text=_read_text(args.text) if args.text else None,
        limits=_limits(args, args.quantization),
        progress=_Terminal(),
    )
    if report.verification:
        _print_figures(report.path, report.verification)
        if report.left_out:
            print(f"  {report.left_out}")
    else:
        print(f"{report.path}: {_megabytes(report.path)} MB, not verified")


def run_verify(args: argparse.Namespace) -> None:
    from . import verify

    measured = verify(
        args.bundle,
        args.against,
        text=_read_text(args.text) if args.text else None,
        limits=_limits(args, Bundle(args.bundle).quantization),
        progress=_Terminal(),
    )
    _print_figures(args.bundle, measured)


def _limits(args: argparse.Namespace, quantization: str) -> Limits:
    """The limits that were given, over the format's strict ones or those that everyone has."""
    limits = STRICT_LIMITS[cast(Quantization, quantization)] if args.strict else Limits()
    return dataclasses.replace(limits, **_given_limits(args))


def _given_limits(args: argparse.Namespace) -> dict[str, float]:
    flags = {
        "max_abs_diff": args.max_abs_diff,
        "mean_kl": args.max_mean_kl,
        "perplexity_ratio": args.max_perplexity_ratio,
    }
    return {name: value for name, value in flags.items() if value is not None}


def _print_figures(path: Path, measured: Verification) -> None:
    from .verification.grades import grade, meaning
    from .verification.structure import LIMIT

    print(f"{path}: {_megabytes(path)} MB, verified on {measured.tokens:,} tokens")
    if measured.grade:
        print(f"  {measured.quantization}: {measured.grade} ({meaning(measured.grade)})")
    structure = measured.structure
    loss = f"; quantized, it loses at most {structure.largest_loss:.1%}" if structure.losses else ""
    print(f"  each layer against torch: {structure.largest:.2g} times torch's own rounding (limit {LIMIT:g}){loss}")
    if measured.fp32:
        print(f"  fp32 against torch: max abs logit difference {measured.fp32.max_abs_diff:.2g}")
    if measured.quantized:
        q = measured.quantized
        print(
            f"  {measured.quantization} against torch: mean KL {q.mean_kl:.2e}, p99 KL {q.p99_kl:.2e}, "
            f"top-1 agreement {q.top1_agreement:.2%}, "
            f"perplexity ratio {q.perplexity_ratio:.5f} +- {q.perplexity_ratio_error:.5f}"
        )
    if measured.int8_cache:
        q = measured.int8_cache
        print(f"  with an int8 cache: {grade(q)}, mean KL {q.mean_kl:.2e}, perplexity ratio {q.perplexity_ratio:.5f}")
    print(f"  in a batch against alone: {measured.batch_difference:g}, in chunks: {measured.chunk_difference:.2g}")


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{file} cannot be read as UTF-8 text ({error}); give a plain text file") from error


def _megabytes(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:,.1f}"


class _Terminal:
    """Progress on stderr: a line per stage, a bar with bytes and rate where weights are read or written."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._bar = tqdm(disable=True)

    def stage(self, name: str, nbytes: int = 0) -> None:
        self._bar.close()
        print(f"{name} ...", file=sys.stderr)
        self._bar = self._tqdm(total=nbytes, unit="B", unit_scale=True, leave=False, disable=None if nbytes else True)

    def advance(self, nbytes: int) -> None:
        self._bar.update(nbytes)


if __name__ == "__main__":
    raise SystemExit(main())
