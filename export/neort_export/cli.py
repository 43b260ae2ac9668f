"""``neort-export CHECKPOINT -o BUNDLE``: the exporter on the command line."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from neort.errors import NeortError

from .errors import ExportError
from .formats import FORMATS

__all__ = ["main"]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="neort-export",
        description="Export a GPT-Neo checkpoint to a bundle that neort runs without torch.",
    )
    parser.add_argument("checkpoint", help="folder with config.json and weights, or a Hugging Face hub name")
    parser.add_argument("-o", "--output", required=True, metavar="BUNDLE", type=Path, help="folder to create")
    parser.add_argument("--quantization", choices=list(FORMATS), default="int8", help="default: int8")
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="UTF-8 text to verify on, instead of the built-in one"
    )
    parser.add_argument("--max-abs-diff", type=float, metavar="X", help="limit of fp32 logits' difference to torch")
    parser.add_argument("--max-mean-kl", type=float, metavar="NATS", help="limit of the mean KL divergence to torch")
    parser.add_argument("--max-perplexity-ratio", type=float, metavar="R", help="limit of the perplexity over torch's")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 for an error (one sentence on stderr), 130 for Ctrl-C."""
    args = parse_args(argv)
    try:
        run(args)
    except NeortError as error:
        print(f"neort-export: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nneort-export: interrupted; no bundle was written", file=sys.stderr)
        return 130
    return 0


def run(args: argparse.Namespace) -> None:
    from . import export  # imports torch, which takes seconds: not for --help

    given = {
        "max_abs_diff": args.max_abs_diff,
        "mean_kl": args.max_mean_kl,
        "perplexity_ratio": args.max_perplexity_ratio,
    }
    report = export(
        args.checkpoint,
        args.output,
        quantization=args.quantization,
        force=args.force,
        text=_read_text(args.text) if args.text else None,
        limits=dataclasses.replace(
            FORMATS[args.quantization].limits, **{name: value for name, value in given.items() if value is not None}
        ),
        progress=_Terminal(),
    )
    print(f"{report.path}: {_megabytes(report.path)} MB, verified on {report.fp32.tokens:,} tokens")
    print(f"  fp32 against torch: max abs logit difference {report.fp32.max_abs_diff:.2g}")
    if report.quantized:
        q = report.quantized
        print(
            f"  {args.quantization} against torch: mean KL {q.mean_kl:.2e}, p99 KL {q.p99_kl:.2e}, "
            f"top-1 agreement {q.top1_agreement:.2%}, perplexity ratio {q.perplexity_ratio:.5f}"
        )
    print(f"  in a batch against alone: {report.batch_difference:g}, in chunks: {report.chunk_difference:.2g}")


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{file} cannot be read as UTF-8 text ({error}); give a plain text file") from error


def _megabytes(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:,.1f}"


class _Terminal:
    """Progress on stderr: a line per stage, a bar with bytes and rate while weights are written."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._bar = tqdm(disable=True)

    def stage(self, name: str) -> None:
        self._bar.close()
        print(f"{name} ...", file=sys.stderr)

    def total(self, nbytes: int) -> None:
        self._bar = self._tqdm(total=nbytes, unit="B", unit_scale=True, leave=False, disable=None)

    def advance(self, nbytes: int) -> None:
        self._bar.update(nbytes)


if __name__ == "__main__":
    raise SystemExit(main())
